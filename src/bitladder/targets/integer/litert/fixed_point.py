"""Multiplication by a real number in fixed point, as LiteRT's own kernels have it, and in float32.

A multiplier is ``m 2^(e - 31)`` with m an int32 of 31 bits (``QuantizeMultiplier`` and
``MultiplyByQuantizedMultiplier`` of TensorFlow Lite's ``kernels/internal``). All arrays are int64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_HALF = 1 << 30
_WHOLE = 1 << 31
_SMALLEST = -31
_REDUCED_FROM, _LARGEST_REDUCED = 0x7FFF0000, 0x7FFF


def multiplier(real: float) -> tuple[int, int]:
    """The integer m and the exponent e of a real number of at least 0."""
    if real == 0:
        return 0, 0
    fraction, exponent = math.frexp(real)
    whole = math.floor(fraction * _WHOLE + 0.5)
    if whole == _WHOLE:
        whole, exponent = whole // 2, exponent + 1
    return (0, 0) if exponent < _SMALLEST else (whole, exponent)


def multipliers(real: NDArray[np.float64]) -> tuple[Integers, Integers]:
    """Those of many real numbers."""
    pairs = [multiplier(float(one)) for one in np.atleast_1d(real)]
    m, e = np.asarray(pairs, np.int64).T
    return m, e


def multiplied(x: Integers, m: Any, e: Any, *, upward: bool = False) -> Integers:
    """``x m 2^(e - 31)`` of int32 values, rounded twice: a doubling high product, then a shift.

    Args:
        x: the values.
        m: the multiplier, one or one a channel.
        e: its exponent.
        upward: whether the shift rounds halves upward, as vector instructions do; by default away
            from zero.
    """
    m, e = np.asarray(m, np.int64), np.asarray(e, np.int64)
    product = _int32(x << np.maximum(e, 0)) * m
    nudged = product + np.where(product >= 0, _HALF, 1 - _HALF)
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    places = np.maximum(-e, 0)
    if upward:
        made: Integers = (high + ((np.int64(1) << places) >> 1)) >> places
        return made
    return shifted(high, places)


def multiplied_once(x: Integers, m: Any, e: Any) -> Integers:
    """``x m 2^(e - 31)`` rounded once, half upward, as fully connected layers do."""
    m, shift = np.asarray(m, np.int64), 31 - np.asarray(e, np.int64)
    made: Integers = (x * m + (np.int64(1) << (shift - 1))) >> shift
    return made


def multiplied_wide(x: Integers, m: Any, e: Any) -> Integers:
    """Likewise of int64 sums, by a multiplier of 15 bits, rounded once: half upward."""
    m, shift = np.asarray(m, np.int64), 15 - np.asarray(e, np.int64)
    reduced = np.where(m < _REDUCED_FROM, (m + (1 << 15)) >> 16, _LARGEST_REDUCED)
    made: Integers = (x * reduced + (np.int64(1) << (shift - 1))) >> shift
    return made


def shifted(x: Integers, places: Any) -> Integers:
    """A shift to the right that rounds half away from zero."""
    mask = (np.int64(1) << places) - 1
    made: Integers = (x >> places) + ((x & mask) > (mask >> 1) + (x < 0))
    return made


def _int32(x: Integers) -> Integers:
    return x.astype(np.int32).astype(np.int64)


def by_float(x: Integers, factor: NDArray[np.float32] | np.float32) -> Integers:
    """``x`` as float32 times a float32, rounded half to even, as XNNPACK does."""
    made: Integers = np.rint(x.astype(np.float32) * factor).astype(np.int64)
    return made


def away_from_zero(x: NDArray[Any] | np.floating[Any]) -> NDArray[Any]:
    """Real numbers rounded, halves away from zero."""
    made: NDArray[Any] = np.trunc(x + np.copysign(x.dtype.type(0.5), x))
    return made
