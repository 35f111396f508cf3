"""Pools, means and bilinear resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bitladder.targets.integer.litert.fixed_point import (
    Integers,
    away_from_zero,
    by_float,
    multiplied,
    multiplier,
)
from bitladder.targets.integer.litert.layers import around, saturated
from bitladder.targets.integer.litert.operator import Array, Kernel, Operator


def _windows(op: Operator, x: Array, fill: int) -> Array:
    """The windows of a pool over (N, H, W, C), as (N, H, W, C, h, w)."""
    window = op.option("filterHeight"), op.option("filterWidth")
    pads = [(0, 0), *around(op, x.shape[1:3], window), (0, 0)]
    seen = sliding_window_view(np.pad(x, pads, constant_values=fill), window, (1, 2))
    made: Array = seen[:, :: op.option("strideH"), :: op.option("strideW")]
    return made


def _pool_max(op: Operator, given: Sequence[Any]) -> Array:
    made: Array = _windows(op, given[0], op.x.bounds[0]).max((-2, -1))
    return made


def _pool_average(op: Operator, given: Sequence[Any]) -> Array:
    """The sum of integers over their count, half away from zero; the grid is the input's."""
    total = _windows(op, given[0].astype(np.int64), 0).sum((-2, -1))
    count = _windows(op, np.ones_like(given[0][:1, :, :, :1], np.int64), 0).sum((-2, -1))
    made: Array = away_from_zero(total / count).astype(op.y.dtype)
    return made


def _mean(op: Operator, given: Sequence[Any]) -> Array:
    x = given[0].astype(np.int64) - op.x.zero
    axes = tuple(int(axis) for axis in op.fixed(1).reshape(-1))
    count = int(np.prod([x.shape[axis] for axis in axes]))
    total: Integers = x.sum(axes, keepdims=bool(op.option("keepDims")))
    if op.kernels == "xnnpack":
        return saturated(by_float(total, op.x.step / (op.y.step * np.float32(count))), op.y)
    m, e = multiplier(float(op.x.step) / float(op.y.step))
    shift = min(count.bit_length() - 1, 32, 31 + e)
    return saturated(multiplied(total, (m << shift) // count, e - shift), op.y)


def _resize_bilinear(op: Operator, given: Sequence[Any]) -> Array:
    x = given[0].astype(np.int64)
    mix = _mix_11 if op.kernels == "xnnpack" else _mix_10
    rows, columns = (_between(op, x.shape[1 + i], int(size)) for i, size in enumerate(op.fixed(1)))
    made: Array = mix(x, rows, columns).astype(op.y.dtype)
    return made


_Between = tuple[Integers, Integers, Any]  # places before and behind, and how far along


def _between(op: Operator, have: int, size: int) -> _Between:
    """Between which rows, or columns, each of the result lies."""
    corners, halves = op.option("alignCorners"), op.option("halfPixelCenters")
    places = np.arange(size)
    if op.kernels == "xnnpack":
        spread = corners and size > 1
        scale = np.float32(have - spread) / np.float32(size - spread)
        offset = np.float32(0.5) * scale - np.float32(0.5) if halves else np.float32(0)
        at = np.clip(places.astype(np.float32) * scale + offset, 0, np.float32(have - 1))
        low = np.floor(at).astype(np.int64)
        along = np.rint((at - low.astype(np.float32)) * 2048).astype(np.int64)
        return low, np.minimum(low + 1, have - 1), along
    step = (1024 * have + size // 2) // size
    if corners and size > 1:
        step = (1024 * (have - 1) + (size - 1) // 2) // (size - 1)
    fine = places * step + (step // 2 - 512 if halves else 0)
    low = np.maximum(fine >> 10, 0)
    return low, np.clip((fine + 1023) >> 10, 0, have - 1), fine - 1024 * low


def _mix_11(x: Integers, rows: _Between, columns: _Between) -> Integers:
    """XNNPACK's: weights of 11 bits, one rounding half upward."""
    top, bottom, down = rows
    left, right, along = columns
    along, down = along[:, None], down[:, None, None]
    made = []
    for row in (x[:, top], x[:, bottom]):
        a, b = row[:, :, left], row[:, :, right]
        made.append((a << 11) + (b - a) * along)
    mixed: Integers = ((made[0] << 11) + (made[1] - made[0]) * down + (1 << 21)) >> 22
    return mixed


def _mix_10(x: Integers, rows: _Between, columns: _Between) -> Integers:
    """LiteRT's own: weights of 10 bits, one rounding half away from zero."""
    top, bottom, down = rows
    left, right, along = columns
    along, down = along[:, None], down[:, None, None]
    total: Any = 0
    for row, weight in ((x[:, top], 1024 - down), (x[:, bottom], down)):
        total = total + (row[:, :, left] * (1024 - along) + row[:, :, right] * along) * weight
    nudged = total + np.where(total > 0, 1 << 19, -(1 << 19))
    mixed: Integers = np.where(nudged >= 0, nudged >> 20, -(-nudged >> 20))
    return mixed


POOLING: dict[str, Kernel] = {
    "AVERAGE_POOL_2D": _pool_average,
    "MAX_POOL_2D": _pool_max,
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize_bilinear,
}
