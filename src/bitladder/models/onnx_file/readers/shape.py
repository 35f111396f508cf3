"""Operators that move values; a batch that the file writes as a number becomes free again."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.table import reads


def reshaped(b: Builder, c: Call, x: Value, target: Sequence[int]) -> Value:
    """Give ``x`` a shape that is known at the file's batch, whatever the batch.

    The batch's dimension of the result is the one before which as many values stand as before that
    of ``x``, or the one that ends with it, as in (tokens, images, features) -> (tokens x images,
    features). Where a file of one image moves a batch of 1 by a Reshape, that is a transpose.
    """
    axis, target = x.batch, list(target)
    if axis is None:
        fixed: Value = b.call(c, torch.reshape, x, target)
        return fixed
    before = math.prod(x.sizes[:axis])
    fits = [
        j
        for j, size in enumerate(target)
        if math.prod(target[:j]) == before and size and size % b.batch == 0
    ]
    alone = x.sizes[axis] == b.batch
    lone = [j for j in fits if target[j] == b.batch]
    joined = [j for j in range(len(target)) if math.prod(target[: j + 1]) == before * b.batch]
    if axis and joined and not lone and fits in ([], [len(target) - 1]):
        fits = joined[:1]  # with what stands before: features never become rows of a batch
    if not alone and not lone and x.rank == 2:  # rows of tokens and images, as they were before
        rows = before * x.sizes[axis]
        ends = [j for j in range(len(target)) if math.prod(target[: j + 1]) == rows]
        fits = [j for j in ends if j and target[j] == b.batch][:1] or fits
    if fits and not (alone and not lone and target[0] == b.batch):
        place = lone[0] if alone and lone else fits[0]
    elif alone and b.batch in target:
        place = target.index(b.batch)
        x = b.call(c, torch.movedim, x, axis, 0)
        others = [size for j, size in enumerate(target) if j != place]
        first = b.call(c, torch.reshape, x, [-1, *others])
        moved: Value = b.call(c, torch.movedim, first, 0, place) if place else first
        return moved
    else:
        raise CannotReadError(f"shape {target}, in which the batch of {list(x.sizes)} has no place")
    target[place] = -1
    if lone[:1] == [0] and axis == 0 and len(target) == 2 and x.rank > 2 and alone:
        flat: Value = b.call(c, torch.flatten, x, 1)
        return flat
    made: Value = b.call(c, torch.reshape, x, target)
    return made


@reads("Reshape")
def reshape(b: Builder, c: Call) -> Value:
    """0 keeps a size, -1 is what is left."""
    given = c.get(1)
    target = given.numbers("a shape") if given else list(c.attribute("shape", []))
    if not c.attribute("allowzero", 0):
        target = [c.x.sizes[j] if size == 0 else size for j, size in enumerate(target)]
    if -1 in target:
        rest = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(c.x.sizes) // max(rest, 1)
    return reshaped(b, c, c.x, target)


@reads("Flatten")
def flatten(b: Builder, c: Call) -> Value:
    """Two dimensions: those before the axis, and the rest."""
    axis = int(c.attribute("axis", 1))
    axis = axis + c.x.rank if axis < 0 else axis
    return reshaped(b, c, c.x, [math.prod(c.x.sizes[:axis]), math.prod(c.x.sizes[axis:])])


@reads("Squeeze")
def squeeze(b: Builder, c: Call) -> Value:
    """Without axes all dimensions of 1 go, but the batch's."""
    axes = c.axes()
    if axes is None:
        axes = [j for j, size in enumerate(c.x.sizes) if size == 1 and j != c.x.batch]
    axes = [axis % c.x.rank for axis in axes]
    if c.x.batch in axes:
        raise CannotReadError(f"axes {axes}, which take the batch away")
    made: Value = b.call(c, torch.squeeze, c.x, tuple(axes)) if axes else c.x
    return made


@reads("Unsqueeze")
def unsqueeze(b: Builder, c: Call) -> Value:
    """New dimensions of 1, counted in the result."""
    axes = c.axes()
    if axes is None:
        raise CannotReadError("no axes")
    made = c.x
    for axis in sorted(axis % (c.x.rank + len(axes)) for axis in axes):
        made = b.call(c, torch.unsqueeze, made, axis)
    return made


@reads("Transpose")
def transpose(b: Builder, c: Call) -> Value:
    """Dimensions in another order, by default the reverse."""
    order = list(c.attribute("perm") or range(c.x.rank)[::-1])
    made: Value = b.call(c, torch.permute, c.x, order)
    return made


@reads("Expand")
def expand(b: Builder, c: Call) -> Value:
    """Repeat along dimensions of 1."""
    wanted = c.need(1).numbers("a shape")
    sizes = [1] * (len(wanted) - c.x.rank) + list(c.x.sizes)
    wanted = [1] * (len(sizes) - len(wanted)) + wanted
    grown = len(sizes) - c.x.rank
    target = [
        -1 if j >= grown and want in (1, size) else max(want, size)
        for j, (size, want) in enumerate(zip(sizes, wanted, strict=True))
    ]
    if all(size == -1 for size in target):
        return c.x
    made: Value = b.call(c, "expand", c.x, target)
    return made


@reads("Tile")
def tile(b: Builder, c: Call) -> Value:
    """Repeat whole tensors."""
    times = c.need(1).numbers("repeats")
    made: Value = b.call(c, "repeat", c.x, times)
    return made


@reads("DepthToSpace")
def to_space(b: Builder, c: Call) -> Value:
    """PyTorch's order of channels is ONNX's CRD; the other one is three moves."""
    factor = int(c.attribute("blocksize"))
    if c.attribute("mode", "DCR") == "CRD":
        crd: Value = b.module(c, nn.PixelShuffle(factor), c.x)
        return crd
    channels, height, width = c.x.sizes[1:]
    least = channels // factor**2
    made = b.call(c, torch.reshape, c.x, [-1, factor, factor, least, height, width])
    made = b.call(c, torch.permute, made, [0, 3, 4, 1, 5, 2])
    dcr: Value = b.call(c, torch.reshape, made, [-1, least, height * factor, width * factor])
    return dcr


@reads("SpaceToDepth")
def to_depth(b: Builder, c: Call) -> Value:
    """Blocks of the image become channels, the block's place first."""
    factor = int(c.attribute("blocksize"))
    channels, height, width = c.x.sizes[1:]
    small = [height // factor, width // factor]
    made = b.call(c, torch.reshape, c.x, [-1, channels, small[0], factor, small[1], factor])
    made = b.call(c, torch.permute, made, [0, 3, 5, 1, 2, 4])
    deep: Value = b.call(c, torch.reshape, made, [-1, channels * factor**2, *small])
    return deep


@reads("Concat")
def concat(b: Builder, c: Call) -> Value:
    """A constant among images is repeated for each of them."""
    given = [value for value in c.inputs if value is not None]
    rank = given[0].rank
    axis = int(c.attribute("axis")) % rank
    like = next((v for v in given if v.batch is not None), None)
    if like is not None:
        batch = like.batch
        if batch == axis:
            raise CannotReadError(f"axis {axis}, along the images of a batch")
        given = [v if v.batch is not None else _for_each(b, c, v, like) for v in given]
    made: Value = b.call(c, torch.cat, given, axis)
    return made


def _for_each(b: Builder, c: Call, value: Value, like: Value) -> Value:
    """A constant once for each image of ``like``, in the same dimension."""
    axis = like.batch
    assert axis is not None
    if like.sizes[axis] != b.batch:
        raise CannotReadError("a constant among images of which each has several rows")
    if value.sizes[axis] != 1:
        array = value.constant("a part without a batch")
        value = b.constant(array.take([0], axis), f"{value.name}_first")
    images = b.graph.call_method("size", (like.node, axis))
    target: list[Any] = [-1] * value.rank
    results = []
    for which in (0, 1):
        sizes = list(value.sizes)
        sizes[axis] = int(like.results[which].shape[axis])
        with b.fake:
            results.append(torch.empty(sizes, dtype=value.dtype))
    target[axis] = images
    node = b.graph.call_method("expand", (b.node_of(value), target))
    return Value(value.name, None, node, (results[0], results[1]))


@reads("Split")
def split(b: Builder, c: Call) -> list[Value]:
    """Sizes are an attribute in older files, an input in newer ones, or equal."""
    axis, count = int(c.attribute("axis", 0)) % c.x.rank, len(c.proto.output)
    if not all(c.proto.output):
        raise CannotReadError("outputs without a name, at which ONNX Runtime breaks off")
    given = c.get(1)
    sizes = given.numbers("sizes") if given else list(c.attribute("split") or [])
    if not sizes:
        each = -(-c.x.sizes[axis] // count)
        sizes = [each] * (count - 1) + [c.x.sizes[axis] - each * (count - 1)]
    return pieces(b, c, axis, sizes)


def pieces(b: Builder, c: Call, axis: int, sizes: list[int]) -> list[Value]:
    """The first input in parts of these sizes along a dimension.

    Raises:
        CannotReadError: it is that of the images of a batch.
    """
    if c.x.batch == axis:
        raise CannotReadError(f"axis {axis}, along the images of a batch")
    parts = b.call(c, torch.split, c.x, sizes, axis)
    return [b.call(c, operator.getitem, parts, place) for place in range(len(sizes))]


_PADS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@reads("Pad")
def pad(b: Builder, c: Call) -> Value:
    """Sizes are an attribute in older files and an input in newer ones; negative ones cut."""
    given = c.get(1)
    pads = given.numbers("pads") if given else list(c.attribute("pads") or c.attribute("paddings"))
    axes, mode = c.get(3), c.attribute("mode", "constant")
    rank = c.x.rank
    begin, end = [0] * rank, [0] * rank
    over = [axis % rank for axis in axes.numbers("axes")] if axes else list(range(rank))
    for place, axis in enumerate(over):
        begin[axis], end[axis] = pads[place], pads[place + len(over)]
    if c.x.batch is not None and (begin[c.x.batch] or end[c.x.batch]):
        raise CannotReadError("pads of the batch")
    value = float(c.attribute("value", 0.0))
    filled = c.get(2)
    if filled is not None and filled.array is not None and filled.array.size:
        value = float(filled.array.reshape(-1)[0])
    if mode not in _PADS:
        raise CannotReadError(f"mode {mode}")
    least = min((j for j in range(rank) if begin[j] or end[j]), default=rank)
    if least == rank:
        return c.x
    if mode != "constant":
        if least == rank - 1 == 1:  # signals without channels
            lone = b.call(c, torch.unsqueeze, c.x, 1)
            around = b.call(c, functional.pad, lone, [begin[1], end[1]], _PADS[mode])
            signal: Value = b.call(c, torch.squeeze, around, 1)
            return signal
        if least < 2:
            return _around_any(b, c, begin, end, _PADS[mode])
        least = 2
    ends = [size for j in range(rank - 1, least - 1, -1) for size in (begin[j], end[j])]
    extra = (value,) if mode == "constant" else ()
    made: Value = b.call(c, functional.pad, c.x, ends, _PADS[mode], *extra)
    return made


def _around_any(b: Builder, c: Call, begin: list[int], end: list[int], mode: str) -> Value:
    """Repeat values around dimensions that PyTorch repeats none around: they go last for it."""
    rank = c.x.rank
    padded = [axis for axis in range(rank) if begin[axis] or end[axis]]
    if len(padded) > 2 or rank > 4:
        raise CannotReadError(f"mode {mode} over {len(padded)} of {rank} dimensions")
    order = sorted(range(rank), key=lambda axis: (axis in padded, axis))
    last = order[-2:] if rank == 4 else order[-1:]
    if len(padded) > len(last):
        raise CannotReadError(f"mode {mode} over {len(padded)} of {rank} dimensions")
    moved = b.call(c, torch.permute, c.x, order)
    ends = [size for axis in reversed(last) for size in (begin[axis], end[axis])]
    moved = b.call(c, functional.pad, moved, ends, mode)
    made: Value = b.call(c, torch.permute, moved, [order.index(axis) for axis in range(rank)])
    return made
