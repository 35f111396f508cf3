"""Data sets of a user's function: read through once, checked, and kept as an array where every
reading gives the same.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bitladder.data import cache, check
from bitladder.data.counts import absent, divide
from bitladder.data.digests import digest_of_item, digest_of_targets
from bitladder.data.folders import SPLITS
from bitladder.data.progress_line import ProgressLine
from bitladder.data.reader import Items, item_seed, random_states, seeded
from bitladder.data.splits import DatasetSplit, ImageData, Split, Targets, TensorSplit, picked
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.structures import as_inputs
from bitladder.tasks import Task
from bitladder.user_code import import_function, one_line

_CODE = 1  # raise it when the same items become other pixels
_ROLES = tuple(SPLITS)
_WANTED = "return one to three torch Datasets of (float image (C, H, W), target)"
_BLOCK = 64  # items
_LOOKED_AT = 256  # items of a set too large to be kept that are read again


@dataclass(frozen=True)
class _Part:
    """A Dataset that was read through.

    Attributes:
        where: what it is called in an error.
        items: its items, checked.
        targets: of each item.
        shapes: of every image, for each input.
        digests: of each item, with what is random in it seeded by its index.
        random: reading drew random numbers.
    """

    where: str
    items: Items
    targets: list[Any]
    shapes: tuple[tuple[int, ...], ...]
    digests: list[bytes]
    random: bool


def from_function(
    options: DatasetOptions, loader: LoaderOptions, seed: int, task: Task
) -> ImageData:
    """Call ``package.module:function`` for one, two or three torch Datasets.

    They are (all,), (train, validation) or (train, validation, test), or a mapping with these
    names, of (float image (C, H, W), target), or pairs of tensors in their place; a network of
    several inputs has a tuple in the image's place. A Dataset with an attribute ``classes`` says
    how many there are. The function runs with its random numbers seeded, so that every process
    gets the same. Images that differ from one reading to the next, as augmented ones do, are read
    while they are used; all others are kept as an array.

    Raises:
        DataError: the function cannot be imported or returns something else.
    """
    where = f"data set '{options.name}'"
    if options.size is not None or options.normalize != "none":
        raise DataError(f"{where}: size and normalize are the function's own; leave them out")
    function, datasets = _call(options.name, seed, where)
    parts = {
        name: _read(dataset, where if len(datasets) == 1 else f"{where}, {name}", task)
        for name, dataset in datasets.items()
    }
    shapes: tuple[tuple[int, ...], ...] | None = None
    for part in parts.values():
        shapes = check.same_sizes(part.shapes, shapes, part.where)
    assert shapes is not None
    classes = _count_classes(parts, datasets, task)
    divided = divide(options, seed, {name: len(part.targets) for name, part in parts.items()})
    splits: dict[str, Split] = {}
    targets: dict[str, Targets] = {}
    notes: list[str] = []
    arrays: dict[str, Tensor | None] = {}
    determines: list[Any] = [_CODE, shapes, classes]
    batched: dict[str, Targets] = {}
    for name, part in parts.items():
        arrays[name], content, said = _settle(part, loader, function)
        batched[name] = task.batch(part.targets)
        determines += [name, content, digest_of_targets(part.targets)]
        notes += said
    for name, (origin, rows) in divided.items():
        part, pixels = parts[origin], arrays[origin]
        targets[name] = picked(batched[origin], rows)
        determines += [name, rows.tolist()]
        if pixels is None:
            chosen = tuple(rows.tolist())
            splits[name] = DatasetSplit(
                part.items.dataset, chosen, loader.workers, part.where, task
            )
        else:
            splits[name] = TensorSplit(pixels, targets[name], None, rows)
    notes += [f"{where}: {note}" for note in absent(targets, classes)]
    return ImageData(
        name=options.name,
        classes=classes,
        shapes=shapes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        fingerprint=hashlib.sha256(repr(determines).encode()).hexdigest(),
        notes=tuple(notes),
    )


def _call(name: str, seed: int, where: str) -> tuple[Any, dict[str, Any]]:
    """The function, and its Datasets by split."""
    try:
        with seeded(seed):
            function = import_function(name)
            returned = function()
    except Exception as error:  # the user's code can raise anything
        raise DataError(
            f"{where}: {one_line(error)}; it must be an importable function without arguments"
        ) from error
    if isinstance(returned, Mapping):
        roles = {alias: role for role, aliases in SPLITS.items() for alias in aliases}
        found = {roles.get(str(key).lower()): part for key, part in returned.items()}
        if None in found or len(found) < len(returned) or "train" not in found:
            keys = ", ".join(map(str, returned))
            raise DataError(
                f"{where}: returns a mapping with {keys or 'nothing'}; name train, and where they "
                "are there validation and test"
            )
        datasets = {role: found[role] for role in _ROLES if role in found}
    else:
        several = isinstance(returned, list | tuple) and not _are_arrays(returned)
        parts = list(returned) if several else [returned]
        if not 1 <= len(parts) <= len(_ROLES):
            raise DataError(f"{where}: {_WANTED}, not {len(parts)} of them")
        datasets = dict(zip(_ROLES, parts, strict=False))
    datasets = {role: _of_arrays(part, where) for role, part in datasets.items()}
    for part in datasets.values():
        _refuse_what_is_no_dataset(part, where)
    return function, datasets


def _are_arrays(value: Any) -> bool:
    """Whether this is a pair of images and labels."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(isinstance(one, Tensor | np.ndarray) for one in value)


def _of_arrays(part: Any, where: str) -> Any:
    """Images and labels as a Dataset; anything else as it is."""
    if not _are_arrays(part):
        return part
    images, labels = part
    if images.ndim < 2 or not labels.ndim or len(images) != len(labels):
        raise DataError(
            f"{where}: images (N, C, H, W) and a target each are wanted, not "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    return list(zip(images, labels, strict=True))


def _refuse_what_is_no_dataset(part: Any, where: str) -> None:
    given = type(part).__name__
    if isinstance(part, Tensor | np.ndarray):
        raise DataError(f"{where}: {_WANTED}, not a {given}; give a TensorDataset(images, labels)")
    if hasattr(part, "dataset") and hasattr(part, "batch_size"):
        raise DataError(f"{where}: {_WANTED}, not a {given}; give its dataset")
    if isinstance(part, str | bytes | Mapping) or not hasattr(part, "__getitem__"):
        raise DataError(f"{where}: {_WANTED}, not a {given}")
    try:
        images = len(part)
    except Exception as error:  # the user's code can raise anything
        raise DataError(f"{where}: a {given} without a length: {one_line(error)}") from error
    if images < 1:
        raise DataError(f"{where}: a Dataset without items")


def _read(dataset: Any, where: str, task: Task) -> _Part:
    """Read and check every item."""
    images = len(dataset)
    items = Items(dataset, where, task)
    line = ProgressLine(f"reading {where}", images)
    targets, digests = [], []
    shapes: tuple[tuple[int, ...], ...] | None = None
    random = False
    for index in range(images):
        with seeded(item_seed(None, 0, index)):
            before = random_states() if _is_looked_at(index) else None
            found = items.read(index)
            random = random or (before is not None and _differ(before, random_states()))
        if isinstance(found, str):
            raise DataError(found)
        alone = tuple(tuple(one.shape) for one in as_inputs(found[0]))
        shapes = check.same_sizes(alone, shapes, f"{where}, item {index}")
        targets.append(found[1])
        digests.append(digest_of_item(found))
        line.add(1)
    line.close()
    assert shapes is not None
    return _Part(where, items, targets, shapes, digests, random)


def _is_looked_at(index: int) -> bool:
    return index < _LOOKED_AT or index % 16 == 0


def _differ(before: tuple[Tensor, Any, Any], after: tuple[Tensor, Any, Any]) -> bool:
    if not torch.equal(before[0], after[0]) or before[2] != after[2]:
        return True
    return any(not np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def _settle(
    part: _Part, loader: LoaderOptions, function: Any
) -> tuple[Tensor | None, Any, list[str]]:
    """Keep a part that is read the same every time.

    Returns:
        Its images (N, C, H, W), or None where they are read while they are used; what its content
        is known by; and notes.
    """
    content = hashlib.sha256(b"".join(part.digests)).hexdigest()
    if len(part.shapes) > 1:  # the cache keeps one array
        return None, content, []
    name = cache.key("function", _CODE, part.shapes, part.random, content)
    shape = (len(part.targets), *part.shapes[0])
    small = 4 * int(np.prod(shape, dtype=np.int64)) <= loader.decoded_gib * 2**30
    known = _known(name, small)
    if known is None:
        with cache.alone(name):
            known = _known(name, small)
            if known is None:
                facts = _find_out(part, name, shape, small)
                cache.remember(name, facts)
                known = _known(name, small) or (facts, None)
    facts, pixels = known
    if not facts["random"]:
        return pixels, content, []
    if facts["seeded"]:
        return None, content, []
    note = (
        f"{part.where}: what is random in its images follows from no seed of torch, numpy or "
        "random, so that a change of its pixels cannot be seen; its source is taken in their place"
    )
    return None, _source(function, part.items.dataset), [note]


def _known(name: str, small: bool) -> tuple[dict[str, Any], Tensor | None] | None:
    """What was found out about a content before, and its images where they are kept."""
    facts = cache.recall(name)
    if facts is None or facts["random"] or not small:
        return None if facts is None else (facts, None)
    kept = cache.find(name)
    return None if kept is None else (facts, torch.from_numpy(kept[1]))


def _find_out(part: _Part, name: str, shape: tuple[int, ...], small: bool) -> dict[str, bool]:
    """Read again, and keep the array where it is small and every item is what it was."""
    if not part.random:
        try:
            if small:
                again = _read_again(part, range(shape[0]))
                if not cache.keep(name, {}, again, shape, "float32"):
                    for _ in again:
                        pass
            else:
                step = max(1, shape[0] // _LOOKED_AT)
                for _ in _read_again(part, range(0, shape[0], step)):
                    pass
        except _OtherPixelsError:
            pass
        else:
            return {"random": False, "seeded": True}
    rows = range(min(shape[0], _BLOCK))
    same = all(_digest_of(part, row, item_seed(None, 0, row)) == part.digests[row] for row in rows)
    return {"random": True, "seeded": same}


class _OtherPixelsError(Exception):
    """An item is not what it was when it was read before."""


def _read_again(part: _Part, rows: Sequence[int]) -> Iterator[Any]:
    """Images in blocks, with other random numbers than before."""
    line = ProgressLine(f"keeping {part.where}", len(rows))
    block: list[Tensor] = []
    for row in rows:
        with seeded(item_seed(1, 0, row)):
            found = part.items.read(row)
        if isinstance(found, str) or digest_of_item(found) != part.digests[row]:
            raise _OtherPixelsError
        [image] = as_inputs(found[0])
        block.append(image)
        line.add(1)
        if len(block) == _BLOCK:
            yield torch.stack(block).numpy()
            block = []
    if block:
        yield torch.stack(block).numpy()
    line.close()


def _digest_of(part: _Part, row: int, seed: int) -> bytes | None:
    with seeded(seed):
        found = part.items.read(row)
    return None if isinstance(found, str) else digest_of_item(found)


def _source(*origins: Any) -> list[str]:
    """Hashes of the files that define these."""
    found = []
    for origin in origins:
        try:
            defined = origin if inspect.isroutine(origin) else type(origin)
            content = Path(inspect.getfile(defined)).read_bytes()
        except (OSError, TypeError):
            content = repr(type(origin)).encode()
        found.append(hashlib.sha256(content).hexdigest())
    return found


def _count_classes(
    parts: Mapping[str, _Part], datasets: Mapping[str, Dataset[Any]], task: Task
) -> int | None:
    """As many as a Dataset's ``classes`` says, or as the targets need.

    Raises:
        DataError: a target is beyond them, or there is one class alone.
    """
    try:
        needed = task.classes([target for part in parts.values() for target in part.targets])
    except DataError as error:
        raise DataError(f"{parts['train'].where}: {error}") from None
    said = getattr(datasets["train"], "classes", None)
    if needed is None or not isinstance(said, int | Sized):
        return needed
    classes = said if isinstance(said, int) else len(said)
    for part in parts.values() if needed > classes else ():
        for row, target in enumerate(part.targets):
            if int(torch.as_tensor(target).max()) >= classes:
                raise DataError(
                    f"{part.where}, item {row}: the label {int(torch.as_tensor(target).max())} is "
                    f"none of the {classes} classes that its Dataset says, which count from 0"
                )
    return classes
