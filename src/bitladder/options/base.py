"""The base of every options class: what every value has to be, whatever its option is called."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

LARGEST = 2**31 - 1
"""Largest number of any option; one that needs a lower limit has it of its own."""


def _as_text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


Version = Annotated[str, BeforeValidator(_as_text)]
"""What a user calls a state of something: ``2``, ``2.1`` or a word."""


class Options(BaseModel):
    """Validated, immutable settings of one room.

    Unknown keys are refused, and so is, of any option, a number that is not finite or beyond
    ``LARGEST``, a truth value in place of a number, and a text with a NUL, which no path can have.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would take for something else."""
        field = cls.model_fields.get(info.field_name or "")
        kinds = set(kinds_of(None if field is None else field.annotation))
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{value} is no number; give one")
        if isinstance(value, str | PathLike) and "\0" in str(value):
            raise ValueError("a NUL character stands in it; take it out")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _is_in_range(cls, value: Any) -> Any:
        """Refuse numbers that no option can have, also those in lists."""
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int | float) and not abs(number) <= LARGEST:
                raise ValueError(f"{number:g} is no number of at most {LARGEST:,}")
        return value


def kinds_of(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation, such as int and str of ``tuple[int, ...] | str``."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for one in inner:
        yield from kinds_of(one)
