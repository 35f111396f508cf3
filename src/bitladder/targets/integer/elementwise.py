"""Quantizers, tables and arithmetic of integers value by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor

from bitladder.targets.integer.node import (
    Array,
    Given,
    Kernel,
    Node,
    centred,
    number,
    rounded,
    saturated,
    tensor,
)
from bitladder.targets.integer.runtime import RuntimeNode

_OPSET = 17  # of the functions behind tables
_SOFTMAX_PER_AXIS = 13  # the opset from which Softmax is along one axis
_HEADROOM = 5  # of the exponentials of QLinearSoftmax, in nats


def quantized(x: Array, scale: Any, zero: Array) -> Array:
    """Real values on a grid of one scale."""
    return rounded(tensor(x) / float(scale), zero)


def _blocks(values: Array | None, node: Node, x: Array) -> Array | None:
    """A scale or zero point, shaped for a tensor: one, one a channel, or one a block of values."""
    if values is None or values.size == 1:
        return None if values is None else values.reshape(())
    axis, size = node.get("axis", 1), node.get("block_size", 0)
    if size:
        return np.repeat(values, size, axis).take(range(x.shape[axis]), axis)
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _quantize(node: Node, given: Given) -> Array:
    x, scale, zero = (*given, None)[:3]
    if zero is None:
        kind = node.get("output_dtype", 0) or TensorProto.UINT8
        zero = np.zeros((), helper.tensor_dtype_to_np_dtype(kind))
    spread = _blocks(zero, node, x)
    assert spread is not None
    values = (tensor(x) / torch.from_numpy(np.array(_blocks(scale, node, x)))).round()
    values = values + torch.from_numpy(spread.astype(np.float32))
    lowest = float(np.iinfo(zero.dtype).min)  # of what is no number
    return saturated(values.nan_to_num_(lowest), zero)


def _dequantize(node: Node, given: Given) -> Array:
    x, scale, zero = (*given, None)[:3]
    whole = x.astype(np.int64 if x.dtype == np.int32 else np.int32)
    if zero is not None:
        whole = whole - _blocks(zero, node, x).astype(whole.dtype)  # type: ignore[union-attr]
    made: Array = whole.astype(np.float32) * _blocks(scale, node, x)
    return made


def _fused(factor: Any, other: Any, added: Any) -> Tensor:
    """A product and a sum that are rounded once, as processors with FMA do."""
    product: Tensor = _double(factor) * _double(other) + _double(added)
    return product.float()


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) else float(value)


def _one_a_row(a: Array, b: Array) -> bool:
    """Whether the first input has one number where the second has a row of them."""
    rank = max(a.ndim, b.ndim)
    sizes = zip((1,) * (rank - a.ndim) + a.shape, (1,) * (rank - b.ndim) + b.shape, strict=True)
    last = [pair for pair in sizes if pair != (1, 1)][-1:]
    return bool(last) and last[0][0] == 1


def _add(node: Node, given: Given) -> Array:
    """Addition, which the kernel does with zero points gathered in one number before the sums."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    if _one_a_row(a, b):  # one number for a whole row comes second
        a, a_scale, a_zero, b, b_scale, b_zero = b, b_scale, b_zero, a, a_scale, a_zero
    by_a, by_b = number(a_scale) / number(y_scale), number(b_scale) / number(y_scale)
    zeros = [np.float32(zero.reshape(())) for zero in (a_zero, b_zero, y_zero)]
    fixed = zeros[2] - np.float32(float(by_a) * float(zeros[0]) + float(by_b * zeros[1]))
    summed = _fused(tensor(a), by_a, _fused(tensor(b), by_b, fixed))
    return saturated(summed.round(), y_zero)


def _multiply(node: Node, given: Given) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    factor = number(a_scale) * number(b_scale) / number(y_scale)
    product = centred(a, a_zero) * centred(b, b_zero) * float(factor)
    return saturated((product + float(y_zero.reshape(()))).round(), y_zero)


# Tables of 256 results, one for each integer, in the order of the bits.


def _looked_up(x: Array, table: Array) -> Array:
    found: Array = table[np.ascontiguousarray(x).view(np.uint8)]
    return found


def _all_real(scale: Array, zero: Array) -> Array:
    """The real value of each of the 256 integers."""
    integers = np.arange(256, dtype=np.uint8).view(zero.dtype).astype(np.float32)
    return number(scale) * (integers - np.float32(zero.reshape(())))


def _regridded(x: Array, scale: Array, zero: Array, y_scale: Array, y_zero: Array) -> Array:
    """Integers of one grid on another."""
    return _looked_up(x, quantized(_all_real(scale, zero), number(y_scale), y_zero))


def _by_table(node: Node, given: Given) -> Array:
    """A function of one value. Its own float kernel fills the table."""
    x, x_scale, x_zero, y_scale, y_zero = (*given, None)[:5]
    if "table" not in node.cache:
        kept = {name: node.get(name, 0.0) for name in node.attributes}
        kind = node.kind.removeprefix("QLinear")
        proto = helper.make_node(kind, ["x"], ["y"], **kept)
        function = RuntimeNode(Node(proto, {}), {"x": TensorProto.FLOAT}, {}, _OPSET)
        zero = np.zeros((), x.dtype) if x_zero is None else x_zero
        [values] = function(node, [_all_real(x_scale, zero)])
        assert values is not None
        y_zero = np.zeros((), x.dtype) if y_zero is None else y_zero
        node.cache["table"] = quantized(values, number(y_scale), y_zero)
    return _looked_up(x, node.cache["table"])


def _softmax(node: Node, given: Given) -> Array:
    """Exponentials from a table, summed one after another, and whole steps to one."""
    x, x_scale, _, y_scale, y_zero = given
    axis = node.get("axis", -1 if node.get("opset", 0) >= _SOFTMAX_PER_AXIS else 1)
    whole = node.get("opset", 0) < _SOFTMAX_PER_AXIS  # from the axis on, all together
    rows = x.reshape(int(np.prod(x.shape[:axis])), -1) if whole else np.moveaxis(x, axis, -1)
    count = rows.shape[-1]
    table = _exponentials(float(number(x_scale)), count)
    below = rows.max(-1, keepdims=True).astype(np.int32) - rows  # 0 at the largest
    powers = table[255 - below]
    total = np.add.accumulate(powers, -1)[..., -1:].astype(np.float64)
    steps = float(np.floor(np.float32(1) / number(y_scale)))
    made = np.rint(powers.astype(np.float64) * steps / total) + float(y_zero.reshape(()))
    result = saturated(torch.from_numpy(made), y_zero)
    return result.reshape(x.shape) if whole else np.moveaxis(result, -1, axis)


def _exponentials(scale: float, count: int) -> Array:
    """``exp((i - 255) scale)``, times the largest number whose sum does not overflow."""
    room = np.float32(math.log(float(np.finfo(np.float32).max / np.float32(count))))
    shift = max(0.0, float(room) - _HEADROOM) / scale
    powers: Array = np.exp((np.arange(256) - 255.0 + shift) * scale)
    return powers.astype(np.float32)


def _where(node: Node, given: Given) -> Array:
    condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero = given
    chosen = _regridded(x, x_scale, x_zero, z_scale, z_zero)
    return np.where(condition, chosen, _regridded(y, y_scale, y_zero, z_scale, z_zero))


def _concatenate(node: Node, given: Given) -> Array:
    y_scale, y_zero, *inputs = given
    triples = zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    return np.concatenate(
        [_regridded(x, scale, zero, y_scale, y_zero) for x, scale, zero in triples],
        node.get("axis", 1),
    )


ELEMENTWISE: dict[str, tuple[Kernel, int]] = {
    "QLinearAdd": (_add, 7),
    "QLinearConcat": (_concatenate, 1),
    "QLinearLeakyRelu": (_by_table, 4),
    "QLinearMul": (_multiply, 7),
    "QLinearSigmoid": (_by_table, 4),
    "QLinearSoftmax": (_softmax, 4),
    "QLinearWhere": (_where, 8),
}
"""By name, with the place of the zero point whose type the result has."""
QUANTIZERS: dict[str, Kernel] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
