"""Options of the training room; the defaults are the report's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from bitladder.errors import unknown
from bitladder.options.base import Options, Version
from bitladder.user_code import is_import_path

LearningRate = Annotated[float, Field(gt=0, le=100)] | Literal["auto"]
Schedule = Literal["constant", "one_cycle", "cosine"]
AUGMENTATIONS = ("none", "standard")


def _augmentation(value: str) -> str:
    if value not in AUGMENTATIONS and not is_import_path(value):
        raise ValueError(unknown("augmentation", value, AUGMENTATIONS) + ", or package.module:NAME")
    return value


Augmentation = Annotated[str, AfterValidator(_augmentation)]
"""``none``, ``standard``, or ``package.module:function``, see ``training.augment``."""


class EarlyStopping(Options):
    """Stop when the training accuracy no longer grows."""

    min_delta: float = Field(default=0.001, ge=0)
    """Smallest gain in accuracy (a fraction) that counts."""
    patience: int = Field(default=150, ge=1)
    """Validation checks without a gain after which training stops."""


class TrainOptions(Options):
    """Float training of one network on one data set."""

    model_config = ConfigDict(serialize_by_alias=True)

    start: Literal["weights"] | None = Field(default=None, alias="from")
    """``weights`` trains networks that have weights (a file, ImageNet's, those of an ONNX file),
    with a new last layer for other classes; by default a file's weights are taken as they are."""
    epochs: int = Field(default=2, ge=1, le=10_000)
    """Passes over the training images."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps in place of epochs, so that small data sets get the same budget."""
    batch_size: int = Field(default=256, ge=1)
    """Images of a batch, which is a step unless batches are accumulated."""
    accumulate: int = Field(default=1, ge=1)
    """Batches of a step, whose gradients are averaged: a larger batch in the memory of one."""
    augment: Augmentation = "none"
    """``standard`` shifts images by up to an eighth and mirrors half of them, with their targets;
    ``package.module:function`` returns a transform of (image, target)."""
    lr: LearningRate = "auto"
    """Adam's learning rate, or ``auto`` for Lightning's learning rate finder."""
    schedule: Schedule = "one_cycle"
    """How the learning rate runs; with one_cycle ``lr`` is its peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay (AdamW)."""
    gradient_clip: float = Field(default=0.5, ge=0)
    """Largest gradient norm; 0 does not clip."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """When to stop early, or null."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; ``auto`` takes fp16 on a GPU and none on a CPU, where it loses."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Lightning's accelerator."""
    validate_every: float = Field(default=0.25, gt=0, le=1)
    """Validation within the epoch, as a fraction of it."""
    version: Version | None = None
    """Version of augment's code, if the key cannot see it: part of every key."""
