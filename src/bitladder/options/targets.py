"""Options of the targets: which ones run an artifact, and on how many images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from bitladder.options.base import Options
from bitladder.options.export import HtpVersion

TargetName = Literal["onnxruntime", "htp"]
_EMULATED = 500  # an emulator takes up to half a second an image


class TargetOptions(Options):
    """A target that runs the artifact, as a name or ``{name: {images: N}}``."""

    name: TargetName
    """``onnxruntime`` on the CPU, or ``htp``, the emulator of the Hexagon HTP."""
    images: int | None = Field(default=None, ge=1)
    """Validation images, the first of the split; by default all, and 500 on ``htp``."""
    version: HtpVersion | None = None
    """Of the ``htp``; by default the emulator's own. Versions do not round alike."""

    @property
    def label(self) -> str:
        """What results call it: the name, with the version if one is asked for."""
        return self.name if self.version is None else f"{self.name}_{self.version}"

    @model_validator(mode="after")
    def _only_htp_has_versions(self) -> TargetOptions:
        if self.version is not None and self.name != "htp":
            raise ValueError(f"version: {self.name} has none; it is of the htp")
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, Mapping) and "name" not in value and len(value) == 1:
            [(name, options)] = value.items()
            value = {"name": name, **(options if isinstance(options, Mapping) else {})}
        if isinstance(value, dict) and value.get("name") == "htp" and value.get("images") is None:
            value = {**value, "images": _EMULATED}
        return value
