"""Layers on integers: exact sums, an int32 bias, one multiplication in float32, one rounding.

Integers are held in float32, whose sums are exact up to 2^24; a layer that could exceed that is
summed in parts. A sum is an int32, and beyond its range it wraps around as that does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bitladder.targets.integer.elementwise import quantized
from bitladder.targets.integer.node import (
    Array,
    Given,
    Kernel,
    Node,
    centred,
    rounded,
    spread,
    tensor,
)
from bitladder.targets.integer.pooling import channels_first, channels_last, padding

_EXACT = 1 << 24  # integers up to here are exact in float32
_INT32 = 1 << 31
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def _convolve(node: Node, given: Given) -> Array:
    x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero, *bias = given
    last = bool(node.get("channels_last", 0))
    values = centred(channels_first(x) if last else x, x_zero)
    groups, count = node.get("group", 1), weight.ndim - 2
    if "parts" not in node.cache or node.fixed[3] is None:
        bounds = np.iinfo(x.dtype)
        widest = max(bounds.max - float(x_zero.reshape(())), float(x_zero.reshape(())) - bounds.min)
        held = (tensor(weight).double() - spread(w_zero, 0, weight.ndim)).float()
        node.cache["parts"] = exact_parts(held, widest, groups)
    strides, dilations = (node.get(name, [1] * count) for name in ("strides", "dilations"))
    pads = padding(node, tuple(values.shape[2:]), weight.shape[2:], strides, dilations)
    around = [p for i in reversed(range(count)) for p in (pads[i], pads[i + count])]
    values = functional.pad(values, around) if any(around) else values
    convolution: Any = _CONVOLUTIONS[count]
    total: Any = 0
    for channels, part in node.cache["parts"]:
        total = (
            total
            + convolution(
                values[:, channels].to(part.dtype),
                part,
                stride=tuple(strides),
                dilation=tuple(dilations),
                groups=groups,
            ).double()
        )
    factor = x_scale.reshape(-1) * w_scale.reshape(-1) / y_scale.reshape(-1)
    terms = weight[0].size
    y = rounded(_scaled(total, bias, factor, terms, 1), y_zero)
    return channels_last(y) if last else y


def exact_parts(weight: Tensor, widest: float, groups: int) -> list[tuple[slice, Tensor]]:
    """Input channels that can be summed exactly, with their weights."""
    channels = weight.shape[1]
    for count in range(1, channels + 1):
        size = -(-channels // count)
        slices = [slice(start, start + size) for start in range(0, channels, size)]
        parts = [weight[:, part] for part in slices]
        reach = max(float(part.abs().flatten(1).sum(1).max()) for part in parts)
        if reach * widest <= _EXACT:
            break
    if reach * widest > _EXACT or groups > 1:
        # A group's channels lie apart in the input: never divided.
        whole = count > 1 or reach * widest > _EXACT
        return [(slice(None), weight.double() if whole else weight)]
    return list(zip(slices, parts, strict=True))


def _scaled(total: Tensor, bias: Given, factor: Array, terms: int, axis: int) -> Tensor:
    """An exact sum with its bias, as an int32, as float32 times the factor in float32."""
    largest = terms * 255.0 * 255.0
    if bias and bias[0] is not None:
        total = total + spread(bias[0], axis, total.dim())
        largest += float(np.abs(bias[0].astype(np.float64)).max(initial=0))
    if largest >= _INT32:
        total = torch.remainder(total + _INT32, 2 * _INT32) - _INT32
    product: Tensor = total.float() * spread(factor, axis, total.dim())
    return product


def _product(node: Node, a: Array, a_zero: Array | None, b: Array, b_zero: Array | None) -> Tensor:
    """The exact product of matrices; zero points are one, or one a column of the second."""
    right = tensor(b).double()
    if b_zero is not None:
        zeros = torch.from_numpy(np.array(b_zero, np.float64))
        right = right - (zeros.reshape(()) if zeros.numel() == 1 else zeros)
    return centred(a, a_zero, exact=True) @ right


def _gemm(node: Node, given: Given) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = (*given, None, None, None)[:9]
    left = a.T if node.get("transA", 0) else a
    right = b.T if node.get("transB", 0) else b
    total = _product(node, left, a_zero, right, b_zero)
    factor = np.float32(node.get("alpha", 1.0)) * a_scale.reshape(-1) * b_scale.reshape(-1)
    if y_scale is None:
        made: Array = _scaled(total, [bias], factor, left.shape[1], 1).numpy()
        return made
    factor = factor / y_scale.reshape(-1)
    return rounded(_scaled(total, [bias], factor, left.shape[1], 1), y_zero)


def _multiply_matrices(node: Node, given: Given) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    total = _product(node, a, a_zero, b, b_zero)
    factor = a_scale.reshape(-1) * b_scale.reshape(-1) / y_scale.reshape(-1)
    return rounded(_scaled(total, [], factor, a.shape[-1], -1), y_zero)


def _multiply_to_float(node: Node, given: Given) -> Array:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*given, None, None, None)[:7]
    total = _product(node, a, a_zero, b, b_zero)
    factor = a_scale.reshape(-1) * b_scale.reshape(-1)
    made: Array = _scaled(total, [], factor, a.shape[-1], -1).numpy()
    return made if bias is None else made + bias


def _multiply_dynamic(node: Node, given: Given) -> Array:
    """A product whose first factor is put on the grid of its own smallest and largest value."""
    a, b, b_scale, b_zero, bias = (*given, None, None)[:5]
    low, high = min(np.float32(a.min()), np.float32(0)), max(np.float32(a.max()), np.float32(0))
    scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    zero = np.asarray(np.rint(np.clip(-low / scale, 0, 255)), np.uint8)
    integers = quantized(a, scale, zero)
    whole = [integers, b, np.asarray(scale), b_scale, zero, b_zero, bias]
    return _multiply_to_float(node, whole)


LAYERS: dict[str, tuple[Kernel, int]] = {
    "QGemm": (_gemm, 8),
    "QLinearConv": (_convolve, 7),
    "QLinearMatMul": (_multiply_matrices, 7),
    "MatMulIntegerToFloat": (_multiply_to_float, -1),
}
"""By name, with the place of the zero point whose type the result has, -1 where it is float."""
multiply_dynamic = _multiply_dynamic
