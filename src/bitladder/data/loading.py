"""From a data set's name to its images: find or download, check, split, pad, fingerprint."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from bitladder.data.counts import normalization, split_counts, taken
from bitladder.data.function import from_function
from bitladder.data.image_folder import from_image_folder
from bitladder.data.mnist_format import read_pair
from bitladder.data.splits import ImageData, TensorSplit
from bitladder.data_names import DATASETS, EMBEDDED, FOLDERS, download_folder, find, folder_of
from bitladder.errors import DataError, unknown
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.structures import Inputs, as_inputs, count, first, joined
from bitladder.tasks import Task
from bitladder.tasks import find as find_task

_PADDED = 32

Images = tuple[Tensor, Tensor]
"""Pixels (N, C, H, W) and labels (N,)."""


def load(
    options: DatasetOptions, loader: LoaderOptions, *, seed: int, task: Task | None = None
) -> ImageData:
    """Load a data set and split it.

    Args:
        options: which one, and how it is split.
        loader: where it is looked for.
        seed: seed of the split.
        task: what targets mean; by default classification.

    Raises:
        DataError: it is unknown, cannot be found or read, is too small for the split, or has no
            targets of the task.
    """
    name, task = options.name, task or find_task("classification")
    if ":" in name and "/" not in name and not folder_of(name).is_dir():
        return from_function(options, loader, seed, task)
    found = _of_classes(options, loader, seed)
    task.target(0, f"data set '{name}', which has a class an image")
    return found


def _of_classes(options: DatasetOptions, loader: LoaderOptions, seed: int) -> ImageData:
    """A data set that has a class an image."""
    name = options.name
    if name == "embedded":
        return _embedded(options)
    if name in FOLDERS:
        folder = find(name, loader.root) or _download(name, loader)
        return _mnist_format(options, folder, seed)
    folder = folder_of(name)
    try:
        is_folder, is_file = folder.is_dir(), folder.is_file()
    except OSError as error:
        raise DataError(f"data set '{name}': cannot look there: {error.strerror}") from None
    if is_folder:
        if any(folder.glob("*-idx3-ubyte*")):
            return _mnist_format(options, folder, seed)
        return from_image_folder(options, loader, seed)
    if is_file:
        raise DataError(
            f"data set '{name}': is a file; give a folder, such as one unpacked from it"
        )
    if "/" in name:
        raise DataError(f"data set '{name}': no such folder")
    raise DataError(unknown("data set", name, DATASETS) + ", or give a folder")


def calibration_images(data: ImageData, wanted: int) -> Inputs:
    """The first ``wanted`` images of the training split, which the seed shuffled, by input."""
    found: list[Inputs] = []
    for images, _ in data.train.batches(min(wanted, 256)):
        found.append(as_inputs(images))
        if sum(map(count, found)) >= wanted:
            break
    return first(joined(found), wanted)


def _embedded(options: DatasetOptions) -> ImageData:
    train, validation = read_pair(EMBEDDED, "train"), read_pair(EMBEDDED, "validation")
    if train is None or validation is None:
        raise DataError(f"{EMBEDDED}: the embedded images are missing; install bitladder again")
    train = _take(train, options.train, "train")
    validation = _take(validation, options.validation, "validation")
    return _in_memory(options, train, validation, None, ())


def _mnist_format(options: DatasetOptions, folder: Path, seed: int) -> ImageData:
    pool, test = read_pair(folder, "train"), read_pair(folder, "t10k")
    notes: tuple[str, ...] = ()
    if pool is None:
        if test is None:
            raise DataError(f"{folder}: no train-images-idx3-ubyte or t10k-images-idx3-ubyte here")
        notes = (
            f"{options.name}: split from its {len(test[1])} official test images, as the training "
            "images are not there; not comparable with results on the official splits",
        )
        pool, test = test, None
    train, validation = split_counts(options, len(pool[1]))
    order = torch.randperm(len(pool[1]), generator=torch.Generator().manual_seed(seed))
    parts = order[:train], order[train : train + validation]
    training, held_out = ((pool[0][part], pool[1][part]) for part in parts)
    return _in_memory(options, training, held_out, test, notes)


def _take(pair: Images, wanted: int | None, split: str) -> Images:
    wanted = taken("embedded", wanted, len(pair[1]), split)
    return pair[0][:wanted], pair[1][:wanted]


def _in_memory(
    options: DatasetOptions,
    train: Images,
    validation: Images,
    test: Images | None,
    notes: tuple[str, ...],
) -> ImageData:
    classes = int(train[1].max()) + 1
    pairs = [train, validation] + ([test] if test is not None else [])
    if any(int(labels.max()) >= classes for _, labels in pairs):
        raise DataError(f"data set '{options.name}': a split has classes that training has not")
    resized = [(_resize(images, options.height_and_width), labels) for images, labels in pairs]
    normal = normalization(options, resized[0][0].shape[1])
    splits = [TensorSplit(images, labels, normal) for images, labels in resized]
    fingerprint = hashlib.sha256(repr((options.size, options.normalize)).encode())
    for tensors in resized:
        for tensor in tensors:
            fingerprint.update(str(tuple(tensor.shape)).encode())
            fingerprint.update(tensor.contiguous().numpy().tobytes())
    channels, height, width = splits[0].pixels.shape[1:]
    return ImageData(
        name=options.name,
        classes=classes,
        shapes=((channels, height, width),),
        train=splits[0],
        validation=splits[1],
        test=splits[2] if test is not None else None,
        fingerprint=fingerprint.hexdigest(),
        notes=notes,
        preparation=_preparation(train[0], (height, width)),
    )


def _preparation(images: Tensor, size: tuple[int, int]) -> str:
    """What ``_resize`` does to images, in words."""
    before, after = ("x".join(map(str, one)) for one in (images.shape[2:], size))
    if before == after:
        return "as they are"
    padded = all(own < new for own, new in zip(images.shape[2:], size, strict=True))
    how = "padded with black" if padded and size == (_PADDED, _PADDED) else "resized"
    return f"{how} from {before} to {after}"


def _resize(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    height, width = images.shape[2:]
    if size is None and height <= _PADDED and width <= _PADDED:
        left, top = (_PADDED - width) // 2, (_PADDED - height) // 2
        return pad(images, (left, _PADDED - width - left, top, _PADDED - height - top))
    if size is None or (height, width) == size:
        return images
    smooth = interpolate(images.float(), size, mode="bilinear", antialias=True)
    return smooth.round().clamp(0, 255).byte()


def _download(name: str, loader: LoaderOptions) -> Path:
    folder = FOLDERS[name]
    where = f"put its files into {download_folder() / folder / 'raw'} or set data.root"
    if not loader.download:
        raise DataError(f"data set '{name}' is not on this machine; {where}")
    import torchvision

    dataset: Any = getattr(torchvision.datasets, folder)
    try:
        download_folder().mkdir(parents=True, exist_ok=True)
        # Aside, so that half a download is never taken for the set.
        with tempfile.TemporaryDirectory(dir=download_folder()) as aside:
            dataset(aside, download=True)
            (Path(aside) / folder).replace(download_folder() / folder)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"data set '{name}' cannot be downloaded ({reason}); {where}") from None
    return download_folder() / folder / "raw"
