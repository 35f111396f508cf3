"""Options of the targets: which ones run an artifact, and on how many images."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator, model_validator

from bitladder import target_specs
from bitladder.errors import StudyError
from bitladder.options.base import Options
from bitladder.target_specs import TargetSpec


class TargetOptions(Options):
    """A target that runs the artifact, as a name or ``{name: {images: N}}``."""

    name: str
    """``onnxruntime`` on the CPU, ``htp``, the emulator of the Hexagon HTP, or a ``TargetSpec`` of
    the user's own as package.module:NAME."""
    images: int | None = Field(default=None, ge=1)
    """Validation images, the first of the split; by default all, and 500 on ``htp``."""
    version: str | None = None
    """Version of the ``htp``, such as ``v75``; by default the emulator's own. Versions do not round
    alike."""

    @property
    def spec(self) -> TargetSpec:
        """What the target is."""
        return target_specs.find(self.name)

    @property
    def label(self) -> str:
        """What results call it: the name, with the version if one is asked for."""
        return self.spec.label(self.version)

    @field_validator("name")
    @classmethod
    def _is_there(cls, value: str) -> str:
        try:
            target_specs.find(value)
        except StudyError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _has_the_version(self) -> TargetOptions:
        versions = self.spec.versions
        if self.version is not None and self.version not in versions:
            names = ", ".join(versions) or "none"
            raise ValueError(f"version: {self.name} has {names}, not {self.version}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, Mapping) and "name" not in value and len(value) == 1:
            [(name, options)] = value.items()
            if options is not None and not isinstance(options, Mapping):
                raise ValueError(f"'{name}' is followed by {options!r}; give {{images: N}}")
            value = {"name": name, **(options or {})}
        if isinstance(value, dict) and value.get("images") is None:
            known = target_specs.known().get(str(value.get("name")))
            if known is not None and known.images is not None:
                value = {**value, "images": known.images}
        return value
