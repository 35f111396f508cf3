"""Sums, means and extremes over dimensions; the batch is never one of them."""

from __future__ import annotations

import operator
from typing import Any

import torch

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.table import reads

_KINDS: dict[str, Any] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax,
    "ReduceMin": torch.amin, "ReduceLogSumExp": torch.logsumexp,
}  # fmt: skip


def _axes(c: Call, x: Value) -> list[int]:
    given = c.axes()
    if given is None or not given:
        if c.attribute("noop_with_empty_axes", 0):
            return []
        given = list(range(x.rank))
    found = sorted({axis % x.rank for axis in given})
    if x.batch in found:
        raise CannotReadError(f"axes {found}, over the images of a batch")
    return found


@reads(*_KINDS)
def reduced(b: Builder, c: Call) -> Value:
    """Axes are an attribute in older files and an input in newer ones."""
    axes = _axes(c, c.x)
    if not axes:
        return c.x
    keep = bool(c.attribute("keepdims", 1))
    made: Value = b.call(c, _KINDS[c.proto.op_type], c.x, dim=axes, keepdim=keep)
    return made


@reads("ReduceProd")
def multiplied(b: Builder, c: Call) -> Value:
    """PyTorch multiplies along one dimension at a time."""
    made = c.x
    for axis in reversed(_axes(c, c.x)):
        made = b.call(c, torch.prod, made, dim=axis, keepdim=bool(c.attribute("keepdims", 1)))
    return made


@reads("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def lengths(b: Builder, c: Call) -> Value:
    """Lengths of vectors and sums of squares."""
    axes, keep, kind = _axes(c, c.x), bool(c.attribute("keepdims", 1)), c.proto.op_type
    x = c.x
    if kind == "ReduceL1":
        x = b.call(c, torch.abs, x)
    elif kind in ("ReduceL2", "ReduceSumSquare"):
        x = b.call(c, torch.square, x)
    made: Value = b.call(c, torch.sum, x, dim=axes, keepdim=keep)
    if kind == "ReduceL2":
        made = b.call(c, torch.sqrt, made)
    elif kind == "ReduceLogSum":
        made = b.call(c, torch.log, made)
    return made


@reads("ArgMax", "ArgMin")
def place(b: Builder, c: Call) -> Value:
    """Where the extreme stands, the first of equals."""
    axis = int(c.attribute("axis", 0)) % c.x.rank
    if c.x.batch == axis:
        raise CannotReadError("axis over the images of a batch")
    if c.attribute("select_last_index", 0):
        raise CannotReadError("select_last_index")
    function = torch.argmax if c.proto.op_type == "ArgMax" else torch.argmin
    keep = bool(c.attribute("keepdims", 1))
    made: Value = b.call(c, function, c.x, dim=axis, keepdim=keep)
    return made


@reads("TopK")
def largest(b: Builder, c: Call) -> list[Value]:
    """The largest or smallest values in order, and their places."""
    axis = int(c.attribute("axis", -1)) % c.x.rank
    [count] = c.need(1).numbers("K") if c.get(1) else [int(c.attribute("k"))]
    order = bool(c.attribute("largest", 1))
    both = b.call(c, torch.topk, c.x, count, axis, order, bool(c.attribute("sorted", 1)))
    return [b.call(c, operator.getitem, both, place) for place in range(2)]


@reads("CumSum")
def summed_up(b: Builder, c: Call) -> Value:
    """Sums of all that stand before, or behind; with or without the value itself."""
    [axis] = [place % c.x.rank for place in c.need(1).numbers("axis")]
    if c.x.batch == axis:
        raise CannotReadError("axis over the images of a batch")
    back = bool(c.attribute("reverse", 0))
    x = b.call(c, torch.flip, c.x, [axis]) if back else c.x
    made: Value = b.call(c, torch.cumsum, x, axis)
    if c.attribute("exclusive", 0):
        made = b.call(c, torch.sub, made, x)
    turned: Value = b.call(c, torch.flip, made, [axis]) if back else made
    return turned
