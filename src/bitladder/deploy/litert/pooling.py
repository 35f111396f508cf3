"""Pools and means."""

from __future__ import annotations

import numpy as np
import onnx

from bitladder.deploy.litert.layers import borders, pad
from bitladder.deploy.litert.source import attributes, refuse
from bitladder.deploy.litert.walk import Held, Walk, channels_last

_LOWEST = {"int8": -128, "int16": -32768}


def pool_max(walk: Walk, node: onnx.NodeProto) -> None:
    """MaxPool as MAX_POOL_2D on the grid of its input."""
    x = walk.read(node.input[0], channels_last)
    kernel, sizes = _sizes(walk, node, x)
    low, high, same = borders(node, x.shape[2:], kernel, sizes)
    if not same and any((*low, *high)):
        if x.grid is None:
            raise refuse(node, "float values with such padding have no form in this format")
        lowest = _LOWEST[x.grid.dtype]
        x = pad(walk, x, low, high, None if x.grid.zero == lowest else lowest)
    made = walk.new(node.output[0], walk.source.shapes[node.output[0]], x.grid, x.perm)
    walk.carry(node.output[0], made)
    _pool(walk, node, "MAX_POOL_2D", x, made, same=same)


def pool_average(walk: Walk, node: onnx.NodeProto) -> None:
    """AveragePool as AVERAGE_POOL_2D, whose grid is its input's; on another grid in float."""
    x = walk.read(node.input[0], channels_last)
    kernel, sizes = _sizes(walk, node, x)
    low, high, same = borders(node, x.shape[2:], kernel, sizes)
    around = any((*low, *high))
    counted = around and bool(attributes(node).get("count_include_pad", 0))
    if around and not counted and not same:
        raise refuse(node, "padding that is not counted has a form only where it is SAME")
    result = walk.made(node, x.perm, [x], lambda grid: grid.same(x.grid))
    [x] = walk.same_kind([x], result)
    if counted:
        x, same = pad(walk, x, low, high), False
    _pool(walk, node, "AVERAGE_POOL_2D", x, result, same=same)


def mean(walk: Walk, node: onnx.NodeProto) -> None:
    """GlobalAveragePool and ReduceMean as MEAN."""
    settings = attributes(node)
    x = walk.read(node.input[0])
    rank = len(x.shape)
    if node.op_type == "GlobalAveragePool":
        axes, keep = list(range(2, rank)), True
    else:
        given = settings.get("axes")
        if given is None and len(node.input) > 1 and node.input[1]:
            given = walk.source.constants[node.input[1]].tolist()
        axes = [axis % rank for axis in (range(rank) if given is None else given)]
        keep = bool(settings.get("keepdims", 1))
    kept = [axis for axis in range(rank) if axis not in axes]
    perm = x.perm if keep else tuple(kept.index(axis) for axis in x.perm if axis in kept)
    result = walk.made(node, perm, [x])
    [x] = walk.same_kind([x], result)
    places = walk.ints("axes", sorted(x.axis(axis) for axis in axes))
    options = walk.builder.options("ReducerOptions", keepDims=keep)
    walk.builder.op("MEAN", [x.place, places], [result.place], options, version=2)


def _sizes(walk: Walk, node: onnx.NodeProto, x: Held) -> tuple[list[int], tuple[int, ...]]:
    settings = attributes(node)
    if len(x.shape) != 4 or np.any(np.asarray(settings.get("dilations", [1, 1])) != 1):
        raise refuse(node, "only pools of images (N, C, H, W) without dilation have a form")
    return settings["kernel_shape"], walk.source.shapes[node.output[0]][2:]


def _pool(walk: Walk, node: onnx.NodeProto, code: str, x: Held, made: Held, *, same: bool) -> None:
    settings = attributes(node)
    kernel, strides = settings["kernel_shape"], settings.get("strides", [1, 1])
    options = walk.builder.options(
        "Pool2DOptions",
        padding=0 if same else 1,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    walk.builder.op(code, [x.place], [made.place], options, version=2)
