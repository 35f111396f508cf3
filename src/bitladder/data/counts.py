"""How many images of a set go to which split, and the normalization of an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bitladder.errors import DataError
from bitladder.options import DatasetOptions

_TRAIN_SHARE = 11 / 12  # 55,000 of 60,000, as in the report


def split_counts(options: DatasetOptions, available: int) -> tuple[int, int]:
    """Images to train on and to validate on.

    Raises:
        DataError: more are asked for than there are.
    """
    if options.train is None and options.validation is None:
        train = round(available * _TRAIN_SHARE)
        if train == available > 1:
            train -= 1
        validation = available - train
    elif options.train is None:
        validation = options.validation or 0
        train = available - validation
    else:
        train = options.train
        validation = options.validation or available - train
    if train < 1 or validation < 1 or train + validation > available:
        raise DataError(
            f"data set '{options.name}': {train} to train on and {validation} to validate on, "
            f"but there are {available} images"
        )
    return train, validation


def taken(name: str, count: int | None, available: int, split: str) -> int:
    """Images of a split that is there by itself: all, or as many as are asked for.

    Raises:
        DataError: more are asked for than there are.
    """
    if count is not None and count > available:
        raise DataError(f"{name}: {count} {split} images asked for, there are {available}")
    return available if count is None else count


def divide(
    options: DatasetOptions, seed: int, sizes: dict[str, int]
) -> dict[str, tuple[str, Tensor]]:
    """Which images each split has.

    Training images are shuffled by the seed. Where there are no validation images of their own,
    some of the training images are; where fewer are asked for than there are, the seed draws them.

    Args:
        options: of the data set.
        seed: of the split.
        sizes: images of ``train``, and of ``validation`` and ``test`` where they are there.

    Returns:
        By split, the part that it is taken from and the indices (N,) in that part.

    Raises:
        DataError: more are asked for than there are.
    """
    order = torch.randperm(sizes["train"], generator=torch.Generator().manual_seed(seed))
    if "validation" not in sizes:
        train, validation = split_counts(options, sizes["train"])
        parts = {
            "train": ("train", order[:train]),
            "validation": ("train", order[train : train + validation]),
        }
    else:
        where = f"data set '{options.name}'"
        train = taken(where, options.train, sizes["train"], "training")
        available = sizes["validation"]
        validation = taken(where, options.validation, available, "validation")
        chosen = torch.arange(available)
        if validation < available:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(available, generator=generator)[:validation].sort().values
        parts = {"train": ("train", order[:train]), "validation": ("validation", chosen)}
    if "test" in sizes:
        parts["test"] = ("test", torch.arange(sizes["test"]))
    return parts


def absent(targets: Mapping[str, Any], classes: int | None, names: Sequence[str] = ()) -> list[str]:
    """Notes on classes of which training or validation has no image.

    Args:
        targets: of each split; nothing is said where they are no labels (N,).
        classes: number of classes, or None where there are none.
        names: of the classes; by default their numbers.
    """
    notes = []
    for split in ("train", "validation"):
        labels = targets[split]
        if classes is None or not isinstance(labels, Tensor) or labels.dim() != 1:
            continue
        counts = labels.bincount(minlength=classes).tolist()
        none = [str(names[at] if names else at) for at, count in enumerate(counts) if not count]
        if none:
            more = f" and {len(none) - 10} more" if len(none) > 10 else ""
            what = "to train on" if split == "train" else "to validate on"
            notes.append(f"no images {what} of class {', '.join(none[:10])}{more}")
    return notes


def normalization(options: DatasetOptions, channels: int) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation (channels, 1, 1) where they are asked for.

    Raises:
        DataError: they are of other channels.
    """
    if options.normalization is None:
        return None
    found = options.normalization.of(channels)
    if found is None:
        named = "imagenet normalization" if options.normalize == "imagenet" else "normalize"
        wanted = max(len(options.normalization.mean), len(options.normalization.std))
        raise DataError(
            f"data set '{options.name}': {named} needs {wanted} channels, its images have "
            f"{channels}"
        )
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in found)
    return mean, deviation
