"""The base of every options class: unknown keys are refused, values are fixed once made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Validated, immutable settings of one room."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
