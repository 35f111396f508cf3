"""Data sets that are read while they are used: image folders, and a function of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from bitladder.data.splits import DatasetSplit, ImageData
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.user_code import import_function, one_line

_IMAGE_FOLDER_SIZE = 224


def from_image_folder(options: DatasetOptions, loader: LoaderOptions, seed: int) -> ImageData:
    """Read ``ROOT/CLASS/image`` (split by the seed) or ``ROOT/{train,val}/CLASS/image``.

    Raises:
        DataError: there are no images, or the classes of train and val differ.
    """
    from torchvision import datasets, transforms

    root = Path(options.name)
    size = options.size or _IMAGE_FOLDER_SIZE
    steps: list[Any] = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
    ]
    if options.normalize == "imagenet":
        steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    folders = [root / "train", root / "val"] if (root / "train").is_dir() else [root]
    try:
        found = [
            datasets.ImageFolder(str(folder), transforms.Compose(steps), loader=_open)
            for folder in folders
        ]
    except (FileNotFoundError, OSError) as error:
        raise DataError(f"{root}: not a folder of images: {str(error).splitlines()[0]}") from None
    if len(found) == 2 and found[0].classes != found[1].classes:
        raise DataError(f"{root}: the classes of train and val differ")
    described = "\n".join(
        f"{Path(path).relative_to(root)} {Path(path).stat().st_size} {label}"
        for folder in found
        for path, label in folder.samples
    )
    return _assemble(options, loader, seed, found, len(found[0].classes), described)


def from_function(options: DatasetOptions, loader: LoaderOptions, seed: int) -> ImageData:
    """Call ``package.module:function`` for one, two or three torch Datasets.

    They are (all,), (train, validation) or (train, validation, test) of (float32 image (C, H, W),
    label); a Dataset with an attribute ``classes`` says how many there are.

    Raises:
        DataError: the function cannot be imported or returns something else.
    """
    try:
        returned = import_function(options.name)()
    except Exception as error:  # the user's code can raise anything
        raise DataError(
            f"data set '{options.name}': {one_line(error)}; it must be an importable "
            "function without arguments"
        ) from error
    parts = list(returned.values()) if isinstance(returned, Mapping) else returned
    if not isinstance(parts, Sequence):
        parts = [parts]
    if not 1 <= len(parts) <= 3 or not all(hasattr(part, "__getitem__") for part in parts):
        raise DataError(f"data set '{options.name}': return one to three torch Datasets")
    labels = {int(part[index][1]) for part in parts for index in range(len(part))}
    described = f"{options.name} {[len(part) for part in parts]} {sorted(labels)}"
    return _assemble(options, loader, seed, list(parts), max(labels) + 1, described)


def _assemble(
    options: DatasetOptions,
    loader: LoaderOptions,
    seed: int,
    parts: list[Dataset[Any]],
    classes: int,
    described: str,
) -> ImageData:
    from bitladder.data.load import split_counts

    sizes = [len(part) for part in parts]  # type: ignore[arg-type]
    first = torch.randperm(sizes[0], generator=torch.Generator().manual_seed(seed)).tolist()
    if len(parts) == 1:
        train, validation = split_counts(options, sizes[0])
        ranges = [(parts[0], first[:train]), (parts[0], first[train : train + validation])]
    else:
        counts = [options.train, options.validation, None][: len(parts)]
        orders = [first, *(list(range(size)) for size in sizes[1:])]
        ranges = [
            (part, order[:count]) for part, order, count in zip(parts, orders, counts, strict=True)
        ]
    splits = [DatasetSplit(part, tuple(order), loader.workers) for part, order in ranges]
    image = parts[0][0][0]
    if not isinstance(image, torch.Tensor) or image.dim() != 3:
        raise DataError(f"data set '{options.name}': an image must be a float tensor (C, H, W)")
    channels, height, width = image.shape
    determines = (described, seed, options.model_dump_json(), [s.images for s in splits])
    return ImageData(
        name=options.name,
        classes=classes,
        shape=(channels, height, width),
        train=splits[0],
        validation=splits[1],
        test=splits[2] if len(splits) == 3 else None,
        fingerprint=hashlib.sha256(repr(determines).encode()).hexdigest(),
    )


def _open(path: str) -> Any:
    from torchvision.datasets.folder import pil_loader

    try:
        return pil_loader(path)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot decode this image: {error}") from None
