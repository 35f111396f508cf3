"""Targets as data sets and loaders give them, checked: one line says what is wrong with one."""

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


def labels(value: Any, where: str, count: int, classes: int | None = None) -> Tensor:
    """Int64 labels (N,).

    Args:
        value: what is to be checked.
        where: whose labels these are.
        count: number of images.
        classes: of the network, or None where it is not known.

    Raises:
        DataError: they are something else, or no classes of the network.
    """
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: labels are strings; number the classes from 0")
    try:
        found = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{where}: labels must be integers (N,), not {kind(value)}") from None
    if found.shape != (count,):
        hint = ""
        if found.dim() == 2 and len(found) == count:
            hint = "; take labels.argmax(1)" if found.shape[1] > 1 else "; take labels[:, 0]"
        raise DataError(
            f"{where}: labels of {count} images must be of shape ({count},), not "
            f"{tuple(found.shape)}{hint}"
        )
    return classes_of(found, where, classes)


def masks(value: Any, where: str, count: int, classes: int | None, ignored: int) -> Tensor:
    """Int64 class masks (N, H, W).

    Args:
        value: what is to be checked.
        where: whose masks these are.
        count: number of images.
        classes: of the network, or None where it is not known.
        ignored: the value of pixels that do not count.

    Raises:
        DataError: they are something else, or no classes of the network.
    """
    if not isinstance(value, Tensor) or value.dim() != 3 or len(value) != count:
        given = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind(value)
        raise DataError(f"{where}: masks of {count} images must be ({count}, H, W), not {given}")
    return classes_of(value, where, classes, ignored)


def classes_of(
    found: Tensor, where: str, classes: int | None = None, ignored: int | None = None
) -> Tensor:
    """Numbers of classes as int64, of any shape.

    Raises:
        DataError: they are no integers, negative, or beyond the classes.
    """
    if found.is_floating_point() or found.is_complex():
        dtype = str(found.dtype).removeprefix("torch.")
        raise DataError(f"{where}: labels must be integers, not {dtype}; give labels.long()")
    found = found.long()
    counted = found if ignored is None else found[found != ignored]
    if counted.numel() and int(counted.min()) < 0:
        raise DataError(f"{where}: the label {int(counted.min())} is negative; count from 0")
    if counted.numel() and classes is not None and int(counted.max()) >= classes:
        raise DataError(
            f"{where}: the label {int(counted.max())} is none of the network's {classes} classes, "
            "which count from 0"
        )
    return found


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
