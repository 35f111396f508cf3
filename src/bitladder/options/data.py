"""Options of the data room: which images, how they are split, how they are batched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from bitladder.options.base import Options, Version


class DatasetOptions(Options):
    """One data set of a study."""

    name: str = "embedded"
    """A built-in name, a folder of MNIST-format files or of images, or package.module:function."""
    train: int | None = Field(default=None, gt=0)
    """Images to train on; by default 11/12 of the official training images (55,000 of 60,000)."""
    validation: int | None = Field(default=None, gt=0)
    """Images to validate on; by default the rest of them (5,000 of 60,000)."""
    size: int | None = Field(default=None, ge=8, le=1024)
    """Height and width in pixels; by default 28 is padded to 32, image folders become 224."""
    normalize: Literal["none", "imagenet"] = "none"
    """``none`` keeps pixels in 0 to 1; ``imagenet`` takes off its mean and deviation."""
    version: Version | None = None
    """Of what the pixels do not show, such as random augmentation: part of every key."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


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
