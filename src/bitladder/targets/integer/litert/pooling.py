"""Pools and means."""

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


POOLING: dict[str, Kernel] = {
    "AVERAGE_POOL_2D": _pool_average,
    "MAX_POOL_2D": _pool_max,
    "MEAN": _mean,
}
