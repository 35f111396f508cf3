"""Dataclasses as JSON and back: what stages and saved networks write down.

Numbers that are not finite keep their meaning, as JSON's readers in Python know them.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # by class; they are slow to make


def plain(value: Any) -> Any:
    """A dataclass, or lists and mappings of them, as what JSON can hold."""
    found = _adapter(type(value)).dump_python(value, mode="python")
    return _listed(found)


def read(kind: type[T], content: Any) -> T:
    """A dataclass from what ``plain`` made of it.

    Raises:
        ValueError: it is of another kind.
    """
    found: T = _adapter(kind).validate_python(content)
    return found


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _listed(value: Any) -> Any:
    """Tuples as lists and whole numbers without a point, which makes scores half as long."""
    if isinstance(value, dict):
        return {key: _listed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(part) for part in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
