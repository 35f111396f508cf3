"""Parts of tensors at places that the file names."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.shape import reshaped
from bitladder.models.onnx_file.readers.table import reads


@reads("Slice")
def part(b: Builder, c: Call) -> Value:
    """Bounds are attributes in older files and inputs in newer ones; a negative step reverses."""
    starts, ends = _listed(c, 1, "starts"), _listed(c, 2, "ends")
    if starts is None or ends is None:
        raise CannotReadError("no starts or ends")
    axes = _listed(c, 3, "axes") or list(range(len(starts)))
    steps = _listed(c, 4, "steps") or [1] * len(starts)
    index: list[slice] = [slice(None)] * c.x.rank
    flipped = []
    for start, end, given, step in zip(starts, ends, axes, steps, strict=True):
        axis = given % c.x.rank
        size = c.x.sizes[axis]
        places = range(*slice(start, None if step < 0 and end < -size else end, step).indices(size))
        if list(places) == list(range(size)):
            continue
        if axis == c.x.batch:
            raise CannotReadError(f"some images of a batch, {start}:{end}")
        if len(places) and step < 0:
            flipped.append(axis)
            places = places[::-1]
        first = places[0] if len(places) else 0
        last = places[-1] + 1 if len(places) else 0
        index[axis] = slice(first, last, abs(step) if abs(step) != 1 else None)
    made = c.x
    if any(one != slice(None) for one in index):
        made = b.call(c, operator.getitem, made, tuple(index))
    return b.call(c, torch.flip, made, flipped) if flipped else made


def _listed(c: Call, place: int, name: str) -> list[int] | None:
    given = c.get(place)
    if given is not None:
        return given.numbers(name)
    found = c.attribute(name)
    return None if found is None else [int(value) for value in found]


@reads("Gather")
def gather(b: Builder, c: Call) -> Value:
    """Values at places that stand in the file."""
    axis = int(c.attribute("axis", 0)) % c.x.rank
    places = c.need(1).constant("indices").astype(np.int64)
    if axis == c.x.batch:
        raise CannotReadError("indices of the images of a batch")
    places = np.where(places < 0, places + c.x.sizes[axis], places)
    if places.ndim == 0:
        one: Value = b.call(c, torch.select, c.x, axis, int(places))
        return one
    flat = places.reshape(-1)
    step = int(flat[1] - flat[0]) if len(flat) > 1 else 1
    made: Any
    if step > 0 and len(flat) and np.array_equal(flat, flat[0] + step * np.arange(len(flat))):
        index = [slice(None)] * c.x.rank
        index[axis] = slice(int(flat[0]), int(flat[-1]) + 1, step if step > 1 else None)
        made = b.call(c, operator.getitem, c.x, tuple(index))
    else:
        made = b.call(c, torch.index_select, c.x, axis, b.constant(flat, c.need(1).name))
    if places.ndim > 1:
        sizes = [-1 if j == c.x.batch else size for j, size in enumerate(c.x.sizes)]
        made = b.call(c, torch.reshape, made, [*sizes[:axis], *places.shape, *sizes[axis + 1 :]])
    return made  # type: ignore[no-any-return]


@reads("GatherND")
def block(b: Builder, c: Call) -> Value:
    """A block of a tensor, whose places along each dimension stand in the file."""
    if c.attribute("batch_dims", 0):
        raise CannotReadError("batch_dims")
    indices = c.need(1).constant("indices")
    lists = _lists(c, indices)
    made = c.x
    for axis, places in lists.items():
        made = b.call(c, torch.index_select, made, axis, b.constant(places))
    target = [*indices.shape[:-1], *c.x.sizes[indices.shape[-1] :]]
    return made if list(made.sizes) == target else reshaped(b, c, made, target)


@reads("ScatterND")
def put_block(b: Builder, c: Call) -> Value:
    """Values put into a block, as what exporters write for ``x[..., 1:3] = y``."""
    if c.attribute("reduction", "none") != "none":
        raise CannotReadError(f"reduction {c.attribute('reduction')}")
    indices, updates = c.need(1).constant("indices"), c.need(2)
    lists = _lists(c, indices)
    count = indices.shape[-1]
    sizes = list(c.x.sizes)
    target = [len(lists.get(axis, range(sizes[axis]))) for axis in range(count)] + sizes[count:]
    if list(updates.sizes) != target:
        updates = reshaped(b, c, updates, target)
    return _put(b, c, c.x, list(lists.items()), updates)


def _put(b: Builder, c: Call, x: Value, lists: list[tuple[int, Any]], new: Value) -> Value:
    """``x`` with ``new`` at some places of the first dimension listed, inside of it of the next."""
    if not lists:
        if new.array is None:
            return new
        zero = b.call(c, torch.mul, x, 0.0)  # so that it has the batch
        filled: Value = b.call(c, torch.add, zero, new)
        return filled
    (axis, places), *rest = lists
    part = b.call(c, torch.index_select, x, axis, b.constant(places))
    inner = _put(b, c, part, rest, new)
    size = x.sizes[axis]
    taken = np.arange(size)
    taken[places] = size + np.arange(len(places))
    both = b.call(c, torch.cat, [x, inner], axis)
    made: Value = b.call(c, torch.index_select, both, axis, b.constant(taken))
    return made


def _lists(c: Call, indices: Any) -> dict[int, Any]:
    """The places along each dimension that a block has not whole.

    Raises:
        CannotReadError: the indices are no block, or pick images of a batch.
    """
    count = indices.shape[-1]
    flat = indices.reshape(-1, count).astype(np.int64)
    flat = np.where(flat < 0, flat + np.asarray(c.x.sizes[:count]), flat)
    lists = [
        np.asarray(list(dict.fromkeys(flat[:, axis].tolist())), np.int64) for axis in range(count)
    ]
    if indices.ndim - 1 == count:  # places may stand there twice
        spread = flat.reshape(indices.shape)
        lists = [
            np.moveaxis(spread[..., axis], axis, 0).reshape(spread.shape[axis], -1)[:, 0]
            for axis in range(count)
        ]
    grid = np.stack(np.meshgrid(*lists, indexing="ij"), -1).reshape(-1, count)
    if not np.array_equal(grid, flat):
        raise CannotReadError("indices that are no block")
    whole = {axis for axis, places in enumerate(lists)
             if np.array_equal(places, np.arange(c.x.sizes[axis]))}  # fmt: skip
    if c.x.batch is not None and c.x.batch < count and c.x.batch not in whole:
        raise CannotReadError("indices of the images of a batch")
    return {axis: places for axis, places in enumerate(lists) if axis not in whole}


@reads("GatherElements")
def by_elements(b: Builder, c: Call) -> Value:
    """Values at places of each element its own."""
    axis = int(c.attribute("axis", 0)) % c.x.rank
    made: Value = b.call(c, torch.gather, c.x, axis, c.need(1))
    return made


@reads("Trilu")
def triangle(b: Builder, c: Call) -> Value:
    """One half of each matrix."""
    given = c.get(1)
    diagonal = given.numbers("k")[0] if given else 0
    function = torch.triu if c.attribute("upper", 1) else torch.tril
    made: Value = b.call(c, function, c.x, diagonal)
    return made
