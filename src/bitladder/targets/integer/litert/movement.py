"""Operators that only move values. The leading dimension may hold several images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitladder.targets.integer.litert.operator import Array, Kernel, Operator


def _reshape(op: Operator, given: Sequence[Any]) -> Array:
    x: Array = given[0]
    count = x.size // max(int(np.prod(op.y.shape)), 1)
    made: Array = x.reshape((op.y.shape[0] * count, *op.y.shape[1:]) if op.y.shape else ())
    return made


def _transpose(op: Operator, given: Sequence[Any]) -> Array:
    x: Array = given[0]
    return x.transpose(op.fixed(1))


def _concatenate(op: Operator, given: Sequence[Any]) -> Array:
    return np.concatenate(given, op.option("axis"))


def _split(op: Operator, given: Sequence[Any]) -> tuple[Array, ...]:
    bounds = np.cumsum(op.fixed(1))[:-1]
    return tuple(np.split(given[0], bounds, int(op.fixed(2).reshape(()))))


def _slice(op: Operator, given: Sequence[Any]) -> Array:
    x: Array = given[0]
    numbers = zip(op.fixed(1), op.fixed(2), strict=True)
    return x[tuple(_part(op, i, at, at + size, 1) for i, (at, size) in enumerate(numbers))]


def _strided(op: Operator, given: Sequence[Any]) -> Array:
    x: Array = given[0]
    numbers = zip(*(op.fixed(place) for place in (1, 2, 3)), strict=True)
    return x[tuple(_part(op, i, *bounds) for i, bounds in enumerate(numbers))]


def _part(op: Operator, axis: int, start: int, end: int, step: int) -> slice:
    """Where a dimension is cut; one that is kept whole may hold more images than in the file."""
    whole = (start, end, step) == (0, op.x.shape[axis], 1)
    return slice(None) if whole else slice(start, end, step)


def _pad(op: Operator, given: Sequence[Any]) -> Array:
    fill = op.fixed(2).reshape(()) if len(op.inputs) > 2 else op.x.zero
    return np.pad(given[0], op.fixed(1), constant_values=fill)


def _resize_nearest(op: Operator, given: Sequence[Any]) -> Array:
    """Indices in float32, as ``GetNearestNeighbor`` of TensorFlow Lite has them."""
    x: Array = given[0]
    corners, halves = op.option("alignCorners"), op.option("halfPixelCenters")
    for axis, size in zip((1, 2), op.fixed(1), strict=True):
        have = x.shape[axis]
        spread = corners and size > 1
        scale = np.float32(have - 1) / np.float32(size - 1) if spread else (
            np.float32(have) / np.float32(size))  # fmt: skip
        at = (np.arange(size, dtype=np.float32) + np.float32(0.5 if halves else 0)) * scale
        places = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
        x = x.take(np.clip(places.astype(int), 0, have - 1), axis)
    return x


MOVEMENT: dict[str, Kernel] = {
    "CONCATENATION": _concatenate,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SLICE": _slice,
    "SPLIT_V": _split,
    "STRIDED_SLICE": _strided,
    "TRANSPOSE": _transpose,
}
