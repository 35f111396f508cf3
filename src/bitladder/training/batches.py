"""Batches that batch norms can be trained on: no epoch ends in a batch of a single image.

Of one value a channel there is no variance, so PyTorch refuses such a batch where a batch norm
sees one pixel, and where it sees more, that image alone would set a tenth of the statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch import Tensor

from bitladder.data import Batches
from bitladder.errors import TrainingError
from bitladder.structures import count

Batch = tuple[Any, Any]


def trainable(batches: Batches) -> Batches:
    """The same batches, the last one joined to the one before it where it has one image.

    Args:
        batches: of a split, or a DataLoader or list of the caller's.

    Raises:
        TrainingError: there are none, or nobody knows how many.
    """
    try:
        count = len(batches)
    except TypeError:
        raise TrainingError(
            "the training images come without a number of batches; give a loader that has a length"
        ) from None
    if not count:
        raise TrainingError(f"there is nothing to train on: {describe(batches)} make no batch")
    images, size = _numbers(batches)
    if images is None or size is None:
        return Joined(batches, count)
    if getattr(batches, "drop_last", False) or count == 1 or size == 1 or images % size != 1:
        return batches
    return Joined(batches, count - 1)


def describe(batches: Batches) -> str:
    """How many images there are and the batch size, in words."""
    images, size = _numbers(batches)
    counted = "the training images" if images is None else f"{images} images"
    counted = "1 image" if images == 1 else counted
    return counted if size is None else f"{counted} at batch size {size}"


def single_image(described: str) -> str:
    """Why a batch of one image cannot train a network, and what to do.

    Args:
        described: the images and the batch size, in words.
    """
    return (
        f"batch norms cannot be trained on a batch of one image ({described}): take more images, "
        "or a batch size of at least 2"
    )


def single(batches: Batches) -> bool:
    """Whether an epoch is known to be one batch of one image."""
    images, _ = _numbers(batches)
    return images == 1


class Changed:
    """Batches that are made of others.

    Args:
        batches: the others.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        # Lightning tells the samplers that it finds here which epoch begins.
        self.sampler = getattr(batches, "sampler", None)
        self.batch_sampler = getattr(batches, "batch_sampler", None)

    def __len__(self) -> int:
        return len(self.batches)


class Joined(Changed):
    """Batches whose last one, if it has one image and others have more, goes with that before it.

    Args:
        batches: the batches.
        count: how many there are once it is joined.
    """

    def __init__(self, batches: Batches, count: int) -> None:
        super().__init__(batches)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        waiting: list[Batch] = []  # the last two, until it is known that more come
        for number, batch in enumerate(self.batches, 1):
            waiting.append(batch)
            while len(waiting) > (0 if number < len(self.batches) - 1 else 2):
                yield waiting.pop(0)
        if len(waiting) > 1 and count(waiting[-1][0]) == 1 < count(waiting[-2][0]):
            inputs, target = (_together(*parts) for parts in zip(*waiting[-2:], strict=True))
            waiting[-2:] = [(inputs, target)]
        yield from waiting


class Grouped(Changed):
    """Batches with the weight of each in a step that several of them make.

    A step's gradient is the mean over its images, whatever the sizes of its batches, as if they
    were one. Lightning divides each loss by the number of batches of a whole step, so the weight of
    a batch is that number times its share of the step's images.

    Args:
        batches: the batches.
        step: batches of a step; the last step of an epoch may have fewer.
    """

    def __init__(self, batches: Batches, step: int) -> None:
        super().__init__(batches)
        self.step = step

    def __iter__(self) -> Iterator[tuple[Any, Any, float]]:
        batches = iter(self.batches)
        while group := list(itertools.islice(batches, self.step)):
            images = sum(count(inputs) for inputs, _ in group)
            for inputs, target in group:
                yield inputs, target, self.step * count(inputs) / images


def _together(first: Any, second: Any) -> Any:
    """Two batches of tensors, or of nested tensors, as one; lists are of one entry an image."""
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    if isinstance(first, dict):
        return {key: _together(first[key], second[key]) for key in first}
    if isinstance(first, tuple):
        return tuple(_together(*parts) for parts in zip(first, second, strict=True))
    return first + second


def _numbers(batches: Any) -> tuple[int | None, int | None]:
    """Images of an epoch and images of a batch, each None where it is not known."""
    sampler, size = getattr(batches, "sampler", None), getattr(batches, "batch_size", None)
    if isinstance(batches, Changed):
        return _numbers(batches.batches)
    images = len(sampler) if isinstance(sampler, Sized) else None
    if size is None:  # batches of the caller's own making
        images = None
    return images, size
