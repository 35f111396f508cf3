"""Splits of a data set and their batches: in memory by indexing, or decoded by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Batches(Protocol):
    """Float32 images (B, C, H, W) and int64 labels (B,), as often as it is iterated."""

    def __len__(self) -> int:
        """Number of batches."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over one epoch."""


class Split(Protocol):
    """The images of one split."""

    @property
    def images(self) -> int:
        """Number of images."""

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """Batches in order, or in an order that the seed and the epoch alone determine."""


class EpochSampler(Sampler[int]):
    """Indices in an order that depends on (seed, epoch) alone, so that a resumed run sees it too.

    Lightning calls ``set_epoch`` before each epoch.
    """

    def __init__(self, images: int, seed: int | None) -> None:
        self.images, self.seed, self.epoch = images, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration has."""
        self.epoch = epoch

    def order(self) -> Tensor:
        """The indices (N,) of this epoch."""
        if self.seed is None:
            return torch.arange(self.images)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.images, generator=generator)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def __len__(self) -> int:
        return self.images


class TensorBatches:
    """Batches of a split in memory: gathered as bytes, made float32 in 0 to 1 one by one."""

    def __init__(self, split: TensorSplit, batch_size: int, shuffle_seed: int | None) -> None:
        self.split, self.batch_size = split, batch_size
        self.batch_sampler = None  # Lightning looks for both
        self.sampler = EpochSampler(split.images, shuffle_seed)

    def __len__(self) -> int:
        return -(-self.split.images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.split(self.sampler.order(), self.batch_size):
            yield self.split.float_images(index), self.split.labels[index]


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """A split in memory: uint8 pixels (N, C, H, W), int64 labels (N,)."""

    pixels: Tensor
    labels: Tensor
    normalization: tuple[Tensor, Tensor] | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.labels)

    def float_images(self, index: Tensor) -> Tensor:
        """The images at ``index`` as float32 in 0 to 1, normalized where that was asked for."""
        images = self.pixels[index].float().div_(255)
        if self.normalization is not None:
            mean, deviation = self.normalization
            images = images.sub_(mean).div_(deviation)
        return images

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> TensorBatches:
        """See ``Split.batches``."""
        return TensorBatches(self, batch_size, shuffle_seed)


@dataclass(frozen=True, eq=False)
class DatasetSplit:
    """A split that is read from a torch Dataset while it is used."""

    dataset: Dataset[Any]
    indices: tuple[int, ...]
    workers: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.indices)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """See ``Split.batches``."""
        subset = torch.utils.data.Subset(self.dataset, self.indices)
        return DataLoader(
            subset,
            batch_size=batch_size,
            sampler=EpochSampler(self.images, shuffle_seed),
            num_workers=self.workers,
        )


@dataclass(frozen=True, eq=False)
class LoaderSplit:
    """A split read through a DataLoader of the caller's, which batches and shuffles as it does."""

    loader: DataLoader[Any]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.loader.dataset)  # type: ignore[arg-type]

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """The loader's own batches, whatever is asked for."""
        return self.loader


@dataclass(frozen=True)
class ImageData:
    """A data set, split.

    Attributes:
        name: its name or folder.
        classes: number of classes.
        shape: (channels, height, width) of every image.
        train: images to train on and to calibrate with.
        validation: images to measure with; none of them is in ``train``.
        test: the official test split, or None.
        fingerprint: SHA-256 in hex of images, labels, split and preprocessing.
        notes: what a reader of the results must know.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    train: Split
    validation: Split
    test: Split | None
    fingerprint: str
    notes: tuple[str, ...] = ()
