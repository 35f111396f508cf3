"""Splits of a data set and their batches: of arrays by indexing, or read while they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bitladder.data import check, decoders
from bitladder.data.decode import Size, Source
from bitladder.data.reader import Item, Reader, item_seed
from bitladder.errors import DataError
from bitladder.tasks import Task

Targets: TypeAlias = Tensor | list[Any]
"""Of several images, one each: a tensor whose first dimension is the image, or a list."""


class Batches(Protocol):
    """Inputs and targets of an epoch, as often as it is iterated.

    Inputs are float32 images (B, C, H, W), or a tuple of one tensor an input; targets are what the
    task makes of them, such as int64 labels (B,).
    """

    def __len__(self) -> int:
        """Number of batches."""

    def __iter__(self) -> Iterator[Item]:
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


class OrderedBatches:
    """Batches in the order of a seed and an epoch; each kind of split says how it reads one."""

    def __init__(self, images: int, batch_size: int, shuffle_seed: int | None) -> None:
        self.batch_size = batch_size
        self.batch_sampler = None  # Lightning looks for both
        self.sampler = EpochSampler(images, shuffle_seed)

    def __len__(self) -> int:
        return -(-self.sampler.images // self.batch_size)

    def indices(self) -> list[Tensor]:
        """The indices (B,) of each batch of this epoch."""
        return list(torch.split(self.sampler.order(), self.batch_size))


class TensorBatches(OrderedBatches):
    """Batches of a split in memory: gathered as bytes, made float32 in 0 to 1 one by one."""

    def __init__(self, split: TensorSplit, batch_size: int, shuffle_seed: int | None) -> None:
        super().__init__(split.images, batch_size, shuffle_seed)
        self.split = split

    def __iter__(self) -> Iterator[Item]:
        for index in self.indices():
            yield self.split.float_images(index), picked(self.split.targets, index)


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """A split in memory or of a mapped file.

    Attributes:
        pixels: uint8, or float32 as it is (N, C, H, W).
        targets: of the M images: a tensor (M, ...), or a list.
        normalization: mean and deviation (C, 1, 1), or None.
        rows: of each image in ``pixels`` (M,); None where they are the images in order.
    """

    pixels: Tensor
    targets: Targets
    normalization: tuple[Tensor, Tensor] | None = None
    rows: Tensor | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.targets)

    def float_images(self, index: Tensor) -> Tensor:
        """The images at ``index`` as float32, bytes in 0 to 1, normalized where that was asked."""
        return as_floats(
            self.pixels[index if self.rows is None else self.rows[index]], self.normalization
        )

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> TensorBatches:
        """See ``Split.batches``."""
        return TensorBatches(self, batch_size, shuffle_seed)


def picked(targets: Targets, index: Tensor) -> Targets:
    """The targets of the images at ``index``."""
    if isinstance(targets, Tensor):
        return targets[index]
    return [targets[row] for row in index.tolist()]


def as_floats(pixels: Tensor, normalization: tuple[Tensor, Tensor] | None) -> Tensor:
    """Bytes as float32 in 0 to 1, floats as they are; normalized where that is asked for.

    Floats may be written to.
    """
    images = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
    if normalization is not None:
        mean, deviation = normalization
        images = images.sub_(mean).div_(deviation)
    return images


@dataclass(frozen=True, eq=False)
class FileSplit:
    """A split of image files that are decoded while it is used.

    Attributes:
        files: with the hashes that they had when the set was read.
        targets: of the N images: a tensor (N, ...), or a list.
        size: height and width in pixels.
        normalization: mean and deviation (3, 1, 1), or None.
        workers: processes that decode ahead; they are kept for all passes.
    """

    files: Sequence[Source]
    targets: Targets
    size: Size
    normalization: tuple[Tensor, Tensor] | None
    workers: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.files)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """See ``Split.batches``."""
        return _FileBatches(self, batch_size, shuffle_seed)


class _FileBatches(OrderedBatches):
    def __init__(self, split: FileSplit, batch_size: int, shuffle_seed: int | None) -> None:
        super().__init__(split.images, batch_size, shuffle_seed)
        self.split = split

    def __iter__(self) -> Iterator[Item]:
        split, indices = self.split, self.indices()
        requests = ([split.files[row] for row in index.tolist()] for index in indices)
        decoded = decoders.decode(requests, split.size, split.workers)
        for index, (files, found) in zip(indices, decoded, strict=True):
            for file, reason in zip(files, found.reasons, strict=True):
                if reason is not None:
                    raise DataError(f"{file.path}: cannot decode this image: {reason}")
            pixels = torch.from_numpy(found.pixels)
            yield as_floats(pixels, split.normalization), picked(split.targets, index)


@dataclass(frozen=True, eq=False)
class DatasetSplit:
    """A split that is read from a torch Dataset while it is used.

    What is random in an item follows from the seed, the epoch and the item alone, however many
    processes read.
    """

    dataset: Dataset[Any]
    indices: tuple[int, ...]
    workers: int
    where: str
    task: Task

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.indices)

    @cached_property
    def reader(self) -> Reader:
        """Its processes, kept for all passes."""
        return Reader(self.dataset, self.workers, self.where, self.task)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """See ``Split.batches``."""
        return _DatasetBatches(self, batch_size, shuffle_seed)


class _DatasetBatches(OrderedBatches):
    def __init__(self, split: DatasetSplit, batch_size: int, shuffle_seed: int | None) -> None:
        super().__init__(split.images, batch_size, shuffle_seed)
        self.split = split

    def __iter__(self) -> Iterator[Item]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        wanted = [
            [
                (row, item_seed(seed, epoch, row))
                for row in map(self.split.indices.__getitem__, index)
            ]
            for index in (batch.tolist() for batch in self.indices())
        ]
        return self.split.reader.read(wanted)


@dataclass(frozen=True, eq=False)
class LoaderSplit:
    """A split read through a DataLoader of the caller's, which batches and shuffles as it does.

    Attributes:
        loader: batches (images, targets).
        task: checks the targets.
        where: what they are for, as an error says it.
        classes: of the network, or None where it is not known.
    """

    loader: DataLoader[Any]
    task: Task
    where: str = "loader"
    classes: int | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return len(getattr(self.loader, "dataset", self.loader))

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Batches:
        """The loader's own batches, whatever is asked for, each checked."""
        return _LoaderBatches(self)


class _NoLengthError(DataError, TypeError):
    """As Python says it of whatever has no length: ``list`` and Lightning go on without one."""


class _LoaderBatches:
    def __init__(self, split: LoaderSplit) -> None:
        self.split = split
        self.batch_sampler = None
        self.sampler = getattr(split.loader, "sampler", None)  # for its epochs

    def __len__(self) -> int:
        try:
            return len(self.split.loader)
        except TypeError:
            raise _NoLengthError(
                f"{self.split.where}: its length is not known; give a DataLoader of a Dataset "
                "that has one"
            ) from None

    @property
    def batch_size(self) -> int | None:
        """Images of a batch, where the loader says it."""
        found: int | None = getattr(self.split.loader, "batch_size", None)
        return found

    @property
    def drop_last(self) -> bool:
        """Whether the loader leaves out a batch that is not full."""
        return bool(getattr(self.split.loader, "drop_last", False))

    def __iter__(self) -> Iterator[Item]:
        split = self.split
        return check.batches(split.loader, split.where, split.task, split.classes)


@dataclass(frozen=True)
class ImageData:
    """A data set, split.

    Attributes:
        name: its name or folder.
        classes: number of classes, or None in a task without any.
        shapes: of every image, for each input, such as ((channels, height, width),).
        train: images to train on and to calibrate with.
        validation: images to measure with; none of them is in ``train``.
        test: the official test split, or None.
        fingerprint: SHA-256 in hex of images, targets, split and preprocessing.
        notes: what a reader of the results must know.
        class_names: in the order of their numbers, where they have names.
        preparation: how its files became these images, in words.
    """

    name: str
    classes: int | None
    shapes: tuple[tuple[int, ...], ...]
    train: Split
    validation: Split
    test: Split | None
    fingerprint: str
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    preparation: str = ""

    def with_pixels(self) -> ImageData:
        """The same images without their normalization, for a network that has it in itself."""
        return replace(
            self,
            train=_pixels_of(self.train),
            validation=_pixels_of(self.validation),
            test=None if self.test is None else _pixels_of(self.test),
        )


def _pixels_of(split: Split) -> Split:
    if isinstance(split, TensorSplit | FileSplit) and split.normalization is not None:
        return replace(split, normalization=None)
    return split
