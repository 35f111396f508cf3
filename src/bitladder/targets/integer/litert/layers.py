"""Convolutions and fully connected layers: an exact sum, an integer bias, one multiplication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitladder.targets.integer.layers import exact_parts
from bitladder.targets.integer.litert.fixed_point import (
    Integers,
    by_float,
    multiplied,
    multiplied_once,
    multiplied_wide,
    multipliers,
)
from bitladder.targets.integer.litert.operator import Array, Kernel, Operator, Tensor

_IMAGE = (0, 3, 1, 2)  # (N, H, W, C) as (N, C, H, W)
_SAME = 0


def saturated(values: NDArray[Any], like: Tensor) -> Array:
    """Whole numbers plus a zero point as integers of a tensor."""
    made: Array = np.clip(values + like.zero, *like.bounds).astype(like.dtype)
    return made


def around(op: Operator, sizes: Sequence[int], window: Sequence[int]) -> list[tuple[int, int]]:
    """Padding before and behind height and width."""
    if op.option("padding") != _SAME:
        return [(0, 0), (0, 0)]
    found = []
    for size, width, letter in zip(sizes, window, "HW", strict=True):
        stride = op.option(f"stride{letter}")
        reach = (width - 1) * getattr(op.options, f"dilation{letter}Factor", 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        found.append((total // 2, total - total // 2))
    return found


def _convolve(op: Operator, given: Sequence[Any]) -> Array:
    """CONV_2D, of groups too, and DEPTHWISE_CONV_2D."""
    weight = op.fixed(1)
    deep = op.kind == "DEPTHWISE_CONV_2D"
    order = (3, 0, 1, 2) if deep else (0, 3, 1, 2)
    held = weight.transpose(order)
    channels = given[0].shape[-1]
    groups = channels if deep else channels // held.shape[1]
    values = torch.from_numpy(
        (given[0].astype(np.float32) - np.float32(op.x.zero)).transpose(_IMAGE)
    )
    pads = around(op, values.shape[2:], held.shape[2:])
    values = functional.pad(values, (*pads[1], *pads[0]))
    low, high = op.x.bounds
    widest = float(max(high - op.x.zero, op.x.zero - low))
    parts = exact_parts(torch.from_numpy(held.astype(np.float32)), widest, groups)
    total: Any = 0
    for part_of, part in parts:
        made = functional.conv2d(
            values[:, part_of].to(part.dtype),
            part,
            stride=(op.option("strideH"), op.option("strideW")),
            dilation=(op.option("dilationHFactor"), op.option("dilationWFactor")),
            groups=groups,
        )
        total = total + made.double()
    return _made(op, total.permute(0, 2, 3, 1).numpy().astype(np.int64), 1, 2)


def _convolve_transposed(op: Operator, given: Sequence[Any]) -> Array:
    values = torch.from_numpy((given[2].astype(np.float64) - op.given(2).zero).transpose(_IMAGE))
    weight = torch.from_numpy(op.fixed(1).astype(np.float64).transpose(3, 0, 1, 2))
    stride = op.option("strideH"), op.option("strideW")
    total = functional.conv_transpose2d(values, weight, stride=stride)
    sums = total.permute(0, 2, 3, 1).numpy().astype(np.int64)
    return _made(op, sums, 1, 3, op.given(2))


def _multiply(op: Operator, given: Sequence[Any]) -> Array:
    """FULLY_CONNECTED."""
    weight = op.fixed(1).astype(np.float64)
    values = given[0].astype(np.float64) - op.x.zero
    if not op.option("keepNumDims"):
        values = values.reshape(-1, weight.shape[1])
    return _made(op, (values @ weight.T).astype(np.int64), 1, 2)


def _made(op: Operator, sums: Integers, weight: int, bias: int, x: Tensor | None = None) -> Array:
    """Sums with their bias on the grid of the result."""
    x = op.x if x is None else x
    if len(op.inputs) > bias and op.inputs[bias] is not None:
        sums = sums + op.fixed(bias).astype(np.int64)
    return saturated(requantized(op, sums, x.step, op.given(weight).scale, op.y.step), op.y)


def requantized(
    op: Operator, sums: Integers, x: np.float32, weight: NDArray[np.float32], y: np.float32
) -> Integers:
    """Sums times ``x weight / y``, the last dimension's own, as an operator's kernels round."""
    if op.kernels == "xnnpack":
        return by_float(sums, x * weight / y)
    m, e = multipliers(np.float64(x) * weight.astype(np.float64) / np.float64(y))
    vectors = op.kernels == "builtin" and op.y.dtype == np.int8
    if op.kind == "FULLY_CONNECTED" and not vectors:
        return multiplied_once(sums, m, e)
    if op.y.dtype == np.int16:
        return multiplied_wide(sums, m, e)
    return multiplied(sums, m, e, upward=vectors)


LAYERS: dict[str, Kernel] = {
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve,
    "FULLY_CONNECTED": _multiply,
    "TRANSPOSE_CONV": _convolve_transposed,
}
