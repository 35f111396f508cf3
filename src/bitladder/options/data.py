"""Options of the data room: which images, how they are split, how they are batched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bitladder.options.base import Options, Version

InputType = Literal["float", "uint8"]
"""What a file takes of an image: pixels in 0 to 1 as float32, or their bytes."""
_Side = Annotated[int, Field(ge=8, le=1024)]
_Positive = Annotated[float, Field(gt=0)]


class Normalization(Options):
    """What training did to the pixels: ``(pixels - mean) / std``, channel by channel."""

    mean: tuple[float, ...] = Field(min_length=1)
    """Of each channel, for pixels in 0 to 1; one number is for all."""
    std: tuple[_Positive, ...] = Field(min_length=1)
    """What each channel is divided by then; one number is for all."""
    bgr: bool = False
    """The network takes the channels in the order blue, green, red."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                f"{len(self.mean)} means, but {len(self.std)} deviations; give as many"
            )
        return self

    def of(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation of each channel; None where the numbers are for other channels."""
        both = tuple(given * channels if len(given) == 1 else given for given in self._given)
        return None if {len(given) for given in both} != {channels} else (both[0], both[1])

    @property
    def _given(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.std


IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Of torchvision's and most of timm's pretrained weights."""


class DatasetOptions(Options):
    """One data set of a study."""

    name: str = "embedded"
    """A built-in name, a folder of MNIST-format files or of images, or package.module:function."""
    train: int | None = Field(default=None, gt=0)
    """Images to train on; by default 11/12 of the official training images (55,000 of 60,000)."""
    validation: int | None = Field(default=None, gt=0)
    """Images to validate on; by default the rest of them (5,000 of 60,000)."""
    size: _Side | tuple[_Side, _Side] | None = None
    """Pixels of both sides, or ``[height, width]``; by default 28 is padded to 32, image folders \
become 224."""
    normalize: Literal["none", "imagenet"] | Normalization = "none"
    """What training does to pixels in 0 to 1: ``none``; ``imagenet``, less its mean and over its \
deviation; or ``{mean: [...], std: [...]}``. Files take pixels all the same: it becomes a part of \
the quantized network."""
    version: Version | None = None
    """Version of what the pixels do not show, such as random augmentation: part of every key."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if isinstance(self.normalize, Normalization) and self.normalize.bgr:
            raise ValueError("normalize: bgr is for files; give a function's data set in its place")
        return self

    @property
    def normalization(self) -> Normalization | None:
        """What the network's training did to the pixels, or None."""
        return normalization_of(self.normalize)

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size in pixels, or None where it is left open."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


def normalization_of(value: str | Normalization | None) -> Normalization | None:
    """A normalization by its name: ``none`` or ``imagenet``."""
    if isinstance(value, Normalization):
        return value
    return IMAGENET if value == "imagenet" else None


def told(normalization: Normalization | None) -> dict[str, Any] | None:
    """A normalization as JSON has it."""
    return None if normalization is None else normalization.model_dump(mode="json")


class LoaderOptions(Options):
    """Where data sets are looked for and how those that do not fit in memory are read."""

    root: Path | None = None
    """Folder searched first for data sets, in torchvision's layout."""
    workers: int = Field(default=2, ge=0, le=64)
    """Processes that decode image files or read a function's data set, kept for all passes."""
    decoded_gib: float = Field(default=2, ge=0)
    """Sets that are smaller than this, decoded, are kept decoded on disk; larger ones are read on \
every pass."""
    download: bool = True
    """Download a named data set that is found nowhere."""
