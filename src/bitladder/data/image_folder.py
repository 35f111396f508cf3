"""Folders of images: each file is hashed, decoded and checked once; small sets are kept decoded."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitladder.data import cache, decode, decoders
from bitladder.data.counts import absent, divide, normalization
from bitladder.data.decode import Size, Source
from bitladder.data.folders import search, told
from bitladder.data.progress_line import ProgressLine
from bitladder.data.splits import FileSplit, ImageData, Split, TensorSplit
from bitladder.data_names import folder_of
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions

_SIZE = 224
_REQUEST = 4 << 20  # bytes of decoded images that are asked for at once
_PATIENCE = 2.0  # seconds: decoding that takes no longer starts no processes
_PREPARATION = "RGB, resized until they just cover the size, bilinear, the middle cut out"
_NAMED = 20  # bad images in a message
_REMARKS = {
    decode.SCALED: "hold values beyond 0 to 1 and whole 0 to 255, and are scaled by their own range"
}


@dataclass(frozen=True)
class _Files:
    """The images of all splits, one after the other.

    Attributes:
        sources: the files.
        start: of each split among them.
        labels: of each split (N,).
        classes: names.
        notes: on the folder.
    """

    sources: list[Source]
    start: dict[str, int]
    labels: dict[str, Tensor]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def from_image_folder(options: DatasetOptions, loader: LoaderOptions, seed: int) -> ImageData:
    """Read ``ROOT/CLASS/image`` or ``ROOT/{train,val,test}/CLASS/image``.

    Raises:
        DataError: there are no images, they are not in folders of classes, the classes of the
            splits differ, or images cannot be decoded: all are named.
    """
    root = folder_of(options.name)
    size = options.height_and_width or (_SIZE, _SIZE)
    files = _read(root)
    pixels, facts = _decoded(root, files.sources, size, loader)
    normal = normalization(options, 3)
    divided = divide(options, seed, {name: len(rows) for name, rows in files.labels.items()})
    splits: dict[str, Split] = {}
    labels: dict[str, Tensor] = {}
    contents: dict[str, list[str]] = {}
    for name, (part, rows) in divided.items():
        labels[name] = files.labels[part][rows]
        rows = rows + files.start[part]
        chosen = [files.sources[row] for row in rows.tolist()]
        contents[name] = [source.digest for source in chosen]
        if pixels is None:
            splits[name] = FileSplit(chosen, labels[name], size, normal, loader.workers)
        else:
            splits[name] = TensorSplit(pixels, labels[name], normal, rows)
    determines: list[Any] = [decode.versions(), options.size or _SIZE, options.normalize]
    for name, found in contents.items():
        determines += [name, found, labels[name].tolist()]
    notes = [*files.notes, *_notes(facts), *absent(labels, len(files.classes), files.classes)]
    shared = len(set(contents["train"]) & set(contents["validation"]))
    if shared:
        notes.append(f"{shared} validation images are training images, too, byte for byte")
    return ImageData(
        name=options.name,
        classes=len(files.classes),
        shapes=((3, *size),),
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        fingerprint=hashlib.sha256(repr(determines).encode()).hexdigest(),
        notes=tuple(f"{told(options.name)}: {note}" for note in notes),
        class_names=files.classes,
        preparation=_PREPARATION,
    )


def _read(root: Path) -> _Files:
    """The files and their hashes; what cannot be read has none, and is told with the bad images."""
    found = search(root)
    paths = [path for part in found.parts.values() for path, _ in part]
    sources = [
        Source(str(path), digest if isinstance(digest, str) else "")
        for path, digest in zip(paths, cache.digests(paths), strict=True)
    ]
    start, labels = {}, {}
    total = 0
    for name, part in found.parts.items():
        start[name], total = total, total + len(part)
        labels[name] = torch.tensor([label for _, label in part])
    return _Files(sources, start, labels, found.classes, found.notes)


def _decoded(
    root: Path, sources: list[Source], size: Size, loader: LoaderOptions
) -> tuple[Tensor | None, dict[str, Any]]:
    """The images (N, 3, height, width) where they are few enough to be kept, and facts on them.

    Every image has been decoded when this returns, now or before.

    Raises:
        DataError: images are bad.
    """
    name = cache.key(decode.versions(), *_told_size(size), [source.digest for source in sources])
    shape = (len(sources), 3, *size)
    small = math.prod(shape) <= loader.decoded_gib * 2**30
    facts = _kept(name, small)
    if facts is None:
        with cache.alone(name):
            facts = _kept(name, small)
            if facts is None:
                made: dict[str, Any] = {}
                blocks = _decode(root, sources, size, loader.workers, made)
                if not (small and cache.keep(name, made, blocks, shape, "uint8")):
                    for _ in blocks:  # they are checked at least; the disk may be full
                        pass
                    if not small:
                        cache.remember(name, made)
                facts = _kept(name, small) or (made, None)
    found, pixels = facts
    return None if pixels is None else torch.from_numpy(pixels), found


def _told_size(size: Size) -> tuple[int, ...]:
    """A size as keys have it: one number of a square."""
    return size[:1] if size[0] == size[1] else size


def _kept(name: str, small: bool) -> tuple[dict[str, Any], Any] | None:
    if small:
        return cache.find(name)
    facts = cache.recall(name)
    return None if facts is None else (facts, None)


def _decode(
    root: Path, sources: list[Source], size: Size, workers: int, facts: dict[str, Any]
) -> Iterator[decode.Pixels]:
    """Decode every image in order, and complete the facts at the end."""
    line = ProgressLine(f"decoding {told(root)}", len(sources))
    count = max(1, min(256, _REQUEST // (3 * math.prod(size))))
    requests = [sources[at : at + count] for at in range(0, len(sources), count)]
    reasons: list[str | None] = []
    remarked: dict[str, list[Any]] = {remark: [0, ""] for remark in (decode.GRAY, decode.SCALED)}
    for files, found in _with_or_without_processes(requests, size, workers):
        line.add(len(files))
        for file, reason, remarks in zip(files, found.reasons, found.remarks, strict=True):
            path = told(Path(file.path).relative_to(root))
            reasons.append(reason)
            for remark in remarks:
                count, first = remarked[remark]
                remarked[remark] = [count + 1, first or path]
        yield found.pixels
    line.close()
    _refuse(root, sources, reasons)
    facts |= {"images": len(sources), **remarked}


def _refuse(root: Path, sources: Sequence[Source], reasons: Iterable[str | None]) -> None:
    """Name all images that cannot be used."""
    bad = [
        f"{told(Path(source.path).relative_to(root))}: {reason}"
        for source, reason in zip(sources, reasons, strict=True)
        if reason is not None
    ]
    if bad:
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{told(root)}: {len(bad)} of {len(sources)} images cannot be decoded; replace or "
            f"remove them: {'; '.join(bad[:_NAMED])}{more}"
        )


def _with_or_without_processes(
    requests: Sequence[list[Source]], size: Size, workers: int
) -> Iterator[tuple[list[Source], decode.Decoded]]:
    """Decode here; by processes what would take longer than they take to start."""
    started = time.perf_counter()
    for done, request in enumerate(requests, 1):
        yield request, decode.decode_all(request, size)
        each = (time.perf_counter() - started) / done
        if workers and each * (len(requests) - done) > _PATIENCE:
            yield from decoders.decode(requests[done:], size, workers)
            return


def _notes(facts: dict[str, Any]) -> list[str]:
    notes = []
    for remark, text in _REMARKS.items():
        count, first = facts[remark]
        if count:
            notes.append(f"{count} images {text}, such as {first}")
    count, first = facts[decode.GRAY]
    if 0 < count < facts["images"]:
        notes.append(
            f"{count} of {facts['images']} images are gray, such as {first}; their values stand in "
            "all three channels"
        )
    return notes
