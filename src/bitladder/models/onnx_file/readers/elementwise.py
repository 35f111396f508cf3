"""Arithmetic, comparisons and choices of values at the same place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.table import reads

_ONE: dict[str, Any] = {
    "Neg": torch.neg, "Abs": torch.abs, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal, "Erf": torch.erf, "Floor": torch.floor, "Ceil": torch.ceil,
    "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos,
    "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan,
    "Sinh": torch.sinh, "Cosh": torch.cosh, "Not": torch.logical_not,
}  # fmt: skip
_TWO: dict[str, Any] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
    "Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le,
    "Equal": torch.eq, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}  # fmt: skip
_MANY: dict[str, Any] = {
    "Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add, "Mean": torch.add,
}  # fmt: skip


def operand(value: Value, other: Value) -> Any:
    """A constant of one value as a number, where that changes neither shape nor type."""
    array = value.array
    if array is None or array.size != 1 or array.ndim > other.rank or other.array is not None:
        return value
    return array.reshape(()).item() if array.dtype != bool else value


@reads(*_ONE)
def one(b: Builder, c: Call) -> Value:
    """A function of one tensor."""
    made: Value = b.call(c, _ONE[c.proto.op_type], c.x)
    return made


@reads(*_TWO)
def two(b: Builder, c: Call) -> Value:
    """A function of two tensors, or of a tensor and a number."""
    first, second = c.need(0), c.need(1)
    kind = c.proto.op_type
    if "axis" in c.attributes or c.attribute("broadcast", 0):
        raise CannotReadError("broadcast as before opset 7")
    if kind == "Div" and not (first.dtype.is_floating_point or second.dtype.is_floating_point):
        raise CannotReadError("division of whole numbers")
    left, right = operand(first, second), operand(second, first)
    if kind == "Sub" and not isinstance(left, Value):
        made: Value = b.call(c, torch.rsub, right, left)
        return made
    if kind in ("Add", "Mul") and not isinstance(left, Value):
        left, right = right, left
    if not isinstance(left, Value):
        left = first
    found: Value = b.call(c, _TWO[kind], left, right)
    return found


@reads(*_MANY)
def many(b: Builder, c: Call) -> Value:
    """A function of any number of tensors, two at a time; infinity leaves an extreme as it is."""
    given = [c.need(place) for place in range(len(c.inputs))]
    neutral = {"Max": -np.inf, "Min": np.inf}.get(c.proto.op_type)
    rest = [v for v in given if v.array is None or v.array.size != 1 or v.array != neutral]
    first, *others = rest if any(v.array is None for v in rest) else given
    made = first
    for other in others:
        made = b.call(c, _MANY[c.proto.op_type], made, other)
    if c.proto.op_type == "Mean":
        made = b.call(c, torch.div, made, float(len(c.inputs)))
    return made


@reads("Mod")
def remainder(b: Builder, c: Call) -> Value:
    """With the sign of the divisor, or with ``fmod`` of what is divided."""
    function = torch.fmod if c.attribute("fmod", 0) else torch.remainder
    made: Value = b.call(c, function, c.x, operand(c.need(1), c.x))
    return made


@reads("Where")
def choice(b: Builder, c: Call) -> Value:
    """One of two values at each place."""
    condition, first, second = (c.need(place) for place in range(3))
    given = [operand(v, condition) for v in (first, second)]
    if all(not isinstance(v, Value) for v in given):
        given = [first, second]
    made: Value = b.call(c, torch.where, condition, *given)
    return made


@reads("ai.onnx.ml.Scaler")
def scaled(b: Builder, c: Call) -> Value:
    """``(x - offset) scale``, as scikit-learn's files begin."""
    made = c.x
    for name, function in (("offset", torch.sub), ("scale", torch.mul)):
        values = np.asarray(c.attribute(name) or [], np.float32)
        if values.size:
            made = b.call(c, function, made, b.constant(values))
    return made


@reads("Identity", "Dropout")
def same(b: Builder, c: Call) -> Value:
    """What a network in use hands on as it is."""
    if c.uses(1):
        raise CannotReadError("output mask")
    return c.x


@reads("Cast", "CastLike")
def cast(b: Builder, c: Call) -> Value:
    """Between real numbers nothing changes; to truth values it is a comparison with 0."""
    real, boolean = (1, 10, 11, 16), 9
    wanted = c.attribute("to")
    if wanted is None:
        wanted = 1 if c.need(1).dtype.is_floating_point else 0
    if wanted in real:
        if c.x.dtype.is_floating_point:
            return c.x
        made: Value = b.call(c, "float", c.x)
        return made
    if wanted == boolean:
        if c.x.dtype == torch.bool:
            return c.x
        found: Value = b.call(c, torch.ne, c.x, 0)
        return found
    if not c.x.dtype.is_floating_point and c.x.dtype != torch.bool:
        return c.x
    raise CannotReadError("a change of type to whole numbers")
