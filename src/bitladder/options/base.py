"""The base of every options class: unknown keys are refused, values are fixed once made."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _as_text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


Version = Annotated[str, BeforeValidator(_as_text)]
"""What a user calls a state of something: ``2``, ``2.1`` or a word."""


class Options(BaseModel):
    """Validated, immutable settings of one room."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
