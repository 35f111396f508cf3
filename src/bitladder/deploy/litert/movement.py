"""Operators that only move values; they keep the grid of what they move."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from bitladder.deploy.litert.layers import pad as pad_images
from bitladder.deploy.litert.source import attributes, refuse
from bitladder.deploy.litert.walk import Held, Walk, channels_last, plain

_IMAGES = 4


def reshape(walk: Walk, node: onnx.NodeProto) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze.

    Channels that are split or joined stay last where height and width are as they were.
    """
    x, shape = walk.read(node.input[0]), walk.source.shapes[node.output[0]]
    ranks = len(x.shape), len(shape)
    image = min(ranks) >= _IMAGES and x.shape[-2:] == shape[-2:] and x.shape[0] == shape[0]
    image = image and x.perm != plain(ranks[0])
    x = walk.ordered(x, channels_last(ranks[0]) if image else plain(ranks[0]))
    made = _moved(walk, node.output[0], x, shape, channels_last(ranks[1]) if image else None)
    walk.reshape(x.place, made)


def transpose(walk: Walk, node: onnx.NodeProto) -> None:
    """Transpose: the tensor stays where it is until a reader needs another order."""
    x = walk.read(node.input[0])
    order = attributes(node).get("perm", list(range(len(x.shape)))[::-1])
    perm = tuple(order.index(axis) for axis in x.perm)
    shape = tuple(x.shape[axis] for axis in order)
    walk.carry(node.output[0], Held(x.place, shape, perm, x.grid))


def concatenate(walk: Walk, node: onnx.NodeProto) -> None:
    """Concat: all inputs are put on the result's grid, as the quantizer behind it would."""
    inputs = [walk.read(name) for name in node.input]
    quantizer, name = walk.source.quantizer(node.output[0]), node.output[0]
    grid = inputs[0].grid if quantizer is None else walk.source.grid(quantizer)
    alike = all(one.grid is not None and one.grid.same(grid) for one in inputs)
    if any(one.grid is None for one in inputs) or (quantizer is None and not alike):
        grid = None
    rank = len(inputs[0].shape)
    perm = next((one.perm for one in inputs if one.perm != plain(rank)), plain(rank))
    inputs = [walk.on(walk.ordered(one, perm), grid) for one in inputs]
    made = walk.new(name, walk.source.shapes[name], grid, perm)
    walk.carry(name, made)
    axis = made.axis(attributes(node)["axis"])
    options = walk.builder.options("ConcatenationOptions", axis=axis)
    places = [one.place for one in inputs]
    walk.builder.op("CONCATENATION", places, [made.place], options, version=2)


def split(walk: Walk, node: onnx.NodeProto) -> None:
    """Split as SPLIT_V."""
    x = walk.read(node.input[0])
    axis = attributes(node).get("axis", 0) % len(x.shape)
    made = [_moved(walk, name, x, walk.source.shapes[name], x.perm) for name in node.output]
    sizes = walk.ints("sizes", [one.shape[axis] for one in made])
    inputs = [x.place, sizes, walk.ints("axis", [x.axis(axis)])]
    options = walk.builder.options("SplitVOptions", numSplits=len(made))
    walk.builder.op("SPLIT_V", inputs, [one.place for one in made], options, version=2)


def cut(walk: Walk, node: onnx.NodeProto) -> None:
    """Slice with steps forward as STRIDED_SLICE."""
    x = walk.read(node.input[0])
    given = [None if not name else _list(walk, node, name) for name in node.input[1:]]
    starts, ends, axes, steps = (*given, None, None)[:4]
    assert starts is not None
    assert ends is not None
    bounds = [[0, size, 1] for size in x.held_shape]
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        size, step = x.shape[axis], 1 if steps is None else steps[i]
        if step < 1:
            raise refuse(node, "steps backward have no form here")
        start, end, _ = slice(starts[i], ends[i], step).indices(size)
        bounds[x.axis(axis)] = [start, end, step]
    made = _moved(walk, node.output[0], x, walk.source.shapes[node.output[0]], x.perm)
    numbers = [walk.ints("slice", [one[i] for one in bounds]) for i in range(3)]
    options = walk.builder.options("StridedSliceOptions")
    walk.builder.op("STRIDED_SLICE", [x.place, *numbers], [made.place], options, version=2)


def pad(walk: Walk, node: onnx.NodeProto) -> None:
    """Pad with a constant that the grid holds, of height and width."""
    x = walk.read(node.input[0], channels_last)
    rank = len(x.shape)
    pads = _list(walk, node, node.input[1])
    axes: Any = range(rank)
    if len(node.input) > 3 and node.input[3]:
        axes = [axis % rank for axis in _list(walk, node, node.input[3])]
    low, high = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        low[axis], high[axis] = pads[i], pads[i + len(axes)]
    mode = attributes(node).get("mode", "constant")
    outside = rank != _IMAGES or any(low[:2]) or any(high[:2])
    if mode != "constant" or outside or min(low + high) < 0 or x.grid is None:
        raise refuse(node, "only constant borders of height and width, on a grid, have a form")
    walk.carry(node.output[0], pad_images(walk, x, low[2:], high[2:], _border(walk, node, x)))


def _border(walk: Walk, node: onnx.NodeProto, x: Held) -> int | None:
    """The integer of a border, or None for that of 0."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    assert x.grid is not None
    name = node.input[2]
    source = walk.source.dequantizer(name)
    if source is None:
        value = walk.source.constants[name]
    else:
        integers, grid = walk.source.integers(source)
        value = (integers - grid.zero) * grid.scale
    if not float(value.reshape(())):
        return None
    whole = np.rint(np.float32(value.reshape(())) / x.grid.scale) + x.grid.zero
    bounds = np.iinfo(x.grid.dtype)
    return int(np.clip(whole, bounds.min, bounds.max))


def resize(walk: Walk, node: onnx.NodeProto) -> None:
    """Resize of images, nearest or bilinear."""
    settings = attributes(node)
    mode, place = (
        settings.get(key, other)
        for key, other in (("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel"))
    )
    x = walk.read(node.input[0], channels_last)
    shape = walk.source.shapes[node.output[0]]
    if len(x.shape) != _IMAGES or shape[:2] != x.shape[:2]:
        raise refuse(node, "only height and width are resized in this format")
    whole = all(big % small == 0 for big, small in zip(shape[2:], x.shape[2:], strict=True))
    near = settings.get("nearest_mode", "round_prefer_floor")
    halves = place in ("half_pixel", "pytorch_half_pixel")
    corners = place == "align_corners"
    if mode == "nearest" and not (
        (place == "asymmetric" and near == "floor") or (halves and whole)
    ):
        raise refuse(node, f"nearest neighbours by '{place}' and '{near}' have no form")
    if mode not in ("nearest", "linear") or not (halves or corners or place == "asymmetric"):
        raise refuse(node, f"'{mode}' by '{place}' has no form in this format")
    made = _moved(walk, node.output[0], x, shape, x.perm)
    kind = "ResizeNearestNeighbor" if mode == "nearest" else "ResizeBilinear"
    options = walk.builder.options(f"{kind}Options", alignCorners=corners, halfPixelCenters=halves)
    code = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
    inputs = [x.place, walk.ints("size", shape[2:])]
    walk.builder.op(code, inputs, [made.place], options, version=3)


def _list(walk: Walk, node: onnx.NodeProto, name: str) -> list[int]:
    if name not in walk.source.constants:
        raise refuse(node, "a size or place of it follows from its input")
    found: list[int] = walk.source.constants[name].ravel().tolist()
    return found


def _moved(
    walk: Walk, name: str, x: Held, shape: tuple[int, ...], perm: tuple[int, ...] | None
) -> Held:
    made = walk.new(name, shape, x.grid, perm)
    walk.carry(name, made)
    return made
