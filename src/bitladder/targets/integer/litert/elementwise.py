"""Quantizers, sums, products and functions value by value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.targets.integer.litert.fixed_point import (
    Integers,
    away_from_zero,
    by_float,
    multiplied,
    multiplied_once,
    multiplier,
    shifted,
)
from bitladder.targets.integer.litert.layers import saturated
from bitladder.targets.integer.litert.operator import Array, Kernel, Operator, Tensor

_SUM_BITS = 20  # of XNNPACK's multipliers of sums, and of int8 values before they are added
_WIDE_SUM_BITS = 15  # of int16 values
_CLAMPS: dict[int, tuple[float | None, float | None]] = {1: (0, None), 2: (-1, 1), 3: (0, 6)}
"""Bounds of the activations that are fused with operators, by their numbers in the schema."""


def _quantize(op: Operator, given: Sequence[Any]) -> Array:
    x: Array = given[0]
    if x.dtype == np.float32:
        if op.kernels == "reference":
            return saturated(away_from_zero(x / op.y.step), op.y)
        return saturated(np.rint(x * (np.float32(1) / op.y.step)), op.y)
    moved = x.astype(np.int64) - op.x.zero
    if op.kernels == "xnnpack":
        factor = round(256.0 * float(op.x.step / op.y.step))
        return saturated((moved * factor + 128) >> 8, op.y)
    fixed = multiplier(float(op.x.step) / float(op.y.step))
    return saturated(multiplied(moved, *fixed, upward=_vectors(op)), op.y)


def _vectors(op: Operator) -> bool:
    """Whether LiteRT's own kernel for vector instructions runs it."""
    return op.kernels == "builtin" and op.x.dtype == op.y.dtype == np.int8


def _dequantize(op: Operator, given: Sequence[Any]) -> Array:
    if op.kernels == "builtin" and op.x.dtype == np.int8:
        apart: Array = given[0].astype(np.float32) * op.x.step - np.float32(op.x.zero) * op.x.step
        return apart
    made: Array = (given[0].astype(np.int32) - op.x.zero).astype(np.float32) * op.x.step
    return made


def _add(op: Operator, given: Sequence[Any]) -> Array:
    """ADD and SUB."""
    sign = -1 if op.kind == "SUB" else 1
    a, b = (_moved(op.given(place), given[place]) for place in (0, 1))
    scales = [float(op.given(place).step) for place in (0, 1)]
    if op.kernels == "xnnpack":
        ratios = [op.given(place).step / op.y.step for place in (0, 1)]
        shift = _SUM_BITS - (math.frexp(max(ratios))[1] - 1)
        by_a, by_b = (int(np.rint(math.ldexp(float(ratio), shift))) for ratio in ratios)
        return saturated((a * by_a + sign * b * by_b + (1 << (shift - 1))) >> shift, op.y)
    wide = op.y.dtype == np.int16
    bits = _WIDE_SUM_BITS if wide else _SUM_BITS
    twice = 2 * max(scales)
    enter = multiplied_once if wide and op.kernels == "builtin" and sign > 0 else multiplied
    left, right = (
        enter(values << bits, *multiplier(scale / twice))
        for values, scale in zip((a, b), scales, strict=True)
    )
    factor = multiplier(twice / ((1 << bits) * float(op.y.step)))
    return saturated(multiplied(left + sign * right, *factor), op.y)


def _moved(tensor: Tensor, values: Array) -> Integers:
    return values.astype(np.int64) - tensor.zero


def _multiply(op: Operator, given: Sequence[Any]) -> Array:
    product = _moved(op.x, given[0]) * _moved(op.given(1), given[1])
    a, b, y = op.x.step, op.given(1).step, op.y.step
    if op.kernels == "xnnpack":
        return saturated(by_float(product, a * b / y), op.y)
    return saturated(multiplied(product, *multiplier(float(a * b / y))), op.y)


def _leaky(op: Operator, given: Sequence[Any]) -> Array:
    x, y, alpha = op.x.step, op.y.step, float(op.option("alpha"))
    values = _moved(op.x, given[0])
    if op.kernels == "xnnpack":
        up = round(256.0 * float(x / y))
        down = round(256.0 * float(x / y * np.float32(alpha)))
        return saturated((values * np.where(values >= 0, up, down) + 128) >> 8, op.y)
    same, less = multiplier(float(x / y)), multiplier(float(x * np.float32(alpha) / y))
    found = np.where(values >= 0, multiplied(values, *same), multiplied(values, *less))
    return saturated(found, op.y)


def _clamp(op: Operator, given: Sequence[Any]) -> Array:
    """RELU and RELU6 from one grid to another."""
    made = saturated(
        multiplied(_moved(op.x, given[0]), *multiplier(float(op.x.step / op.y.step))), op.y
    )
    high = op.y.bounds[1]
    if op.kind == "RELU6":
        high = min(high, op.y.zero + int(away_from_zero(np.float32(6) / op.y.step)))
    return np.clip(made, max(op.y.zero, op.y.bounds[0]), high).astype(op.y.dtype)


def _extreme(choose: Callable[[Array, Array], Array]) -> Kernel:
    """The larger or the smaller of integers on one grid."""
    return lambda op, given: choose(given[0], given[1])


def clamped(op: Operator, kernel: Kernel) -> Kernel | None:
    """A kernel with the activation that is fused with it, or None where that does more than clamp.

    Bounds are rounded to the grid: half to even by XNNPACK, half away from zero by the others.
    """
    kind = getattr(op.options, "fusedActivationFunction", 0)
    if not kind:
        return kernel
    if kind not in _CLAMPS:
        return None
    nearest = np.rint if op.kernels == "xnnpack" else away_from_zero
    low, high = (
        end if bound is None else op.y.zero + int(nearest(np.float32(bound) / op.y.step))
        for end, bound in zip(op.y.bounds, _CLAMPS[kind], strict=True)
    )
    low, high = max(low, op.y.bounds[0]), min(high, op.y.bounds[1])
    return lambda op, given: np.clip(kernel(op, given), low, high)


def _hard_swish(op: Operator, given: Sequence[Any]) -> Array:
    """``x relu6(x + 3) / 6`` in fixed point of 16 bits, as ``reference_ops::HardSwish`` has it."""
    fine = _moved(op.x, given[0]) << 7
    step = np.float32(1 / 128) * op.x.step
    out, out_exponent = multiplier(float(step / op.y.step))
    gate, exponent = multiplier(float(step / np.float32(3 / 32768)))
    before = _high_product(fine, _halved(out))
    open_ = _within_16(fine << max(exponent - 1, 0))
    open_ = _high_product(open_, _halved(gate))
    open_ = _within_16(open_ << 1) if exponent > 0 else shifted(open_, max(-exponent, 0))
    open_ = (open_ + (1 << 15)) >> 1
    product = open_ * before
    whole = np.where(product >= 0, product >> 15, -(-product >> 15))
    return saturated(shifted(whole, -out_exponent), op.y)


def _halved(m: int) -> int:
    """A multiplier of 31 bits in 15."""
    return min((m + (1 << 15)) >> 16, (1 << 15) - 1)


def _high_product(x: Integers, m: int) -> Integers:
    """The doubling high product of int16 values, rounded half away from zero."""
    product = x * m
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return _within_16(np.where(nudged >= 0, nudged >> 15, -(-nudged >> 15)))


def _within_16(x: Integers) -> Integers:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _softmax(op: Operator, given: Sequence[Any]) -> Array:
    """Exponentials from a table in float32, summed one after another."""
    x = given[0].astype(np.int64)
    table = np.exp(np.arange(256, dtype=np.float32) * (-op.x.step * np.float32(op.option("beta"))))
    powers = table[x.max(-1, keepdims=True) - x]
    total = np.add.accumulate(powers, -1)[..., -1:]
    return saturated(away_from_zero(powers * (np.float32(1) / (total * op.y.step))), op.y)


def _by_table(function: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Kernel:
    """A function of one int8: the 256 results, made in float32."""

    def kernel(op: Operator, given: Sequence[Any]) -> Array:
        real = np.arange(-128 - op.x.zero, 128 - op.x.zero).astype(np.float32) * op.x.step
        scaled = function(real) / op.y.step
        table = saturated(np.rint(scaled) if op.kernels == "xnnpack" else away_from_zero(scaled),
                          op.y)  # fmt: skip
        made: Array = table[given[0].astype(np.int16) + 128]
        return made

    return kernel


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.float32(1) / (np.float32(1) + np.exp(-x))
    return made


def _tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.tanh(x)
    return made


ELEMENTWISE: dict[str, Kernel] = {
    "ADD": _add,
    "DEQUANTIZE": _dequantize,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky,
    "LOGISTIC": _by_table(_sigmoid),
    "MAXIMUM": _extreme(np.maximum),
    "MINIMUM": _extreme(np.minimum),
    "MUL": _multiply,
    "QUANTIZE": _quantize,
    "RELU": _clamp,
    "RELU6": _clamp,
    "SOFTMAX": _softmax,
    "SUB": _add,
    "TANH": _by_table(_tanh),
}
