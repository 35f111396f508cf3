"""Sums, products and functions value by value.

LOGISTIC, TANH and SOFTMAX make one grid that the format fixes. On any other grid the function runs
in float between the grids, which is what the QDQ file says, and rounds once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from bitladder.deploy.litert.builder import Grid
from bitladder.deploy.litert.source import attributes, refuse
from bitladder.deploy.litert.walk import Held, Walk, plain

_FIXED: dict[str, dict[str, tuple[float, int]]] = {
    "LOGISTIC": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
    "SOFTMAX": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
}
_BINARY = {"Add": ("ADD", 2), "Sub": ("SUB", 2), "Mul": ("MUL", 2)}
_UNARY = {"Sigmoid": ("LOGISTIC", 2), "Tanh": ("TANH", 2), "HardSwish": ("HARD_SWISH", 1)}


def combine(walk: Walk, node: onnx.NodeProto) -> None:
    """Add, Sub and Mul of two tensors, one of which may be spread over the other."""
    inputs = [walk.read(name) for name in node.input]
    shape = walk.source.shapes[node.output[0]]
    whole = [one for one in inputs if len(one.shape) == len(shape)]
    perm = next((one.perm for one in whole if one.perm != plain(len(shape))), plain(len(shape)))
    result = walk.made(node, perm, inputs)
    inputs = walk.same_kind([_raised(walk, one, perm) for one in inputs], result)
    code, version = _BINARY[node.op_type]
    options = walk.builder.options(f"{code.capitalize()}Options")
    if code != "MUL":
        options.potScaleInt16 = False
    walk.builder.op(code, [one.place for one in inputs], [result.place], options, version=version)


def apply(walk: Walk, node: onnx.NodeProto) -> None:
    """Sigmoid, Tanh and HardSwish."""
    code, version = _UNARY[node.op_type]
    x = walk.read(node.input[0])
    result = walk.made(node, x.perm, [x], _fits(code))
    [x] = walk.same_kind([x], result)
    kind = {"HARD_SWISH": "HardSwishOptions"}.get(code)
    options = walk.builder.options(kind) if kind else None
    walk.builder.op(code, [x.place], [result.place], options, version=version)


def softmax(walk: Walk, node: onnx.NodeProto) -> None:
    """Softmax along the last axis of the order that the result is held in."""
    x = walk.read(node.input[0])
    axis, rank = attributes(node).get("axis", -1) % len(x.shape), len(x.shape)
    perm = (*(one for one in x.perm if one != axis), axis)
    x = walk.ordered(x, perm)
    result = walk.made(node, perm, [x], _fits("SOFTMAX"))
    [x] = walk.same_kind([x], result)
    assert len(perm) == rank
    options = walk.builder.options("SoftmaxOptions", beta=1.0)
    walk.builder.op("SOFTMAX", [x.place], [result.place], options, version=2)


def clamp(walk: Walk, node: onnx.NodeProto) -> None:
    """Relu and Clip to 6: on integers the clamp of a grid, otherwise RELU or RELU6."""
    code = "RELU" if node.op_type == "Relu" else _clip(walk, node)
    x = walk.read(node.input[0])
    result = walk.made(node, x.perm, [x])
    [x] = walk.same_kind([x], result)
    walk.builder.op(code, [x.place], [result.place], version=2)


def leaky(walk: Walk, node: onnx.NodeProto) -> None:
    """LeakyRelu."""
    x = walk.read(node.input[0])
    result = walk.made(node, x.perm, [x])
    [x] = walk.same_kind([x], result)
    options = walk.builder.options("LeakyReluOptions", alpha=attributes(node).get("alpha", 0.01))
    walk.builder.op("LEAKY_RELU", [x.place], [result.place], options, version=2)


def _clip(walk: Walk, node: onnx.NodeProto) -> str:
    bounds = [
        float(walk.source.constants[name].reshape(())) if name in walk.source.constants else None
        for name in node.input[1:]
    ]
    if bounds == [0.0, 6.0]:
        return "RELU6"
    raise refuse(node, "only a clamp to 0 and 6 has a form in this format")


def _fits(code: str) -> Callable[[Grid], bool]:
    fixed = _FIXED.get(code)

    def fits(grid: Grid) -> bool:
        if fixed is None:
            return True
        scale, zero = fixed[grid.dtype]
        return bool(np.float32(scale) == grid.scale) and grid.zero == zero

    return fits


def _raised(walk: Walk, value: Held, perm: tuple[int, ...]) -> Held:
    """A tensor with ones before its dimensions, in an order."""
    missing = len(perm) - len(value.shape)
    if missing:
        value = walk.ordered(value, plain(len(value.shape)))
        made = walk.new("raised", (*[1] * missing, *value.shape), value.grid)
        walk.reshape(value.place, made)
        value = made
    return walk.ordered(value, perm)
