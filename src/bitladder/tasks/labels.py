"""Labels of one image as data sets give them: the number of a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitladder.errors import DataError


def label(value: Any, where: str) -> int:
    """A class, counted from 0.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        found = _number(value, where)
        if found.dim():
            hint = "; of one-hot labels take label.argmax()" if found.numel() > 1 else ""
            raise DataError(
                f"{where}: a label must be an int, not of shape {tuple(found.shape)}{hint}"
            )
        value = found.item()
    if isinstance(value, float | complex):
        raise DataError(f"{where}: a label must be an int, not {value}; give int(label)")
    if not isinstance(value, int):
        raise DataError(
            f"{where}: a label must be an int, not {kind(value)}; number the classes from 0"
        )
    if value < 0:
        raise DataError(f"{where}: the label {value} is negative; number the classes from 0")
    return int(value)


def kind(value: Any) -> str:
    """What a value is, as an error says it."""
    if isinstance(value, str):
        return f"the string '{value[:40]}'"
    return "None" if value is None else f"a {type(value).__name__}"


def _number(value: Any, where: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{where}: a label must be an int, not {kind(value)}; number the classes from 0"
        ) from None
