"""Options of the models room: which network, and what its weights start from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from bitladder.options.base import Options, Version


class ModelOptions(Options):
    """One network of a study."""

    name: str = "resnet18"
    """A built-in, torchvision or timm name, or package.module:function."""
    pretrained: bool = False
    """Start from torchvision's (or timm's) ImageNet weights, with a new last layer."""
    weights: Path | None = None
    """A checkpoint: taken in place of float training, or its start (``train: {from: weights}``)."""
    weights_key: str | None = Field(default=None, min_length=1)
    """Where in that file they stand, such as ``ema``; by default it is found."""
    version: Version | None = None
    """Version of code that the key cannot see: part of every key; change it with that code."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_start(self) -> ModelOptions:
        if self.pretrained and self.weights is not None:
            raise ValueError("give pretrained or weights, not both")
        if self.weights_key is not None and self.weights is None:
            raise ValueError("weights_key is a place in the file that weights names; give weights")
        return self
