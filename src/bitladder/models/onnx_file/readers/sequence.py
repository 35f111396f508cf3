"""Lists of tensors, as exporters write a ``split`` or a list of features; they exist here alone."""

from __future__ import annotations

import torch

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.shape import concat, pieces
from bitladder.models.onnx_file.readers.table import reads


def _parts(value: Value) -> list[Value]:
    if value.parts is None:
        raise CannotReadError("a sequence that is no list of tensors")
    return list(value.parts)


def _place(c: Call, place: int, count: int) -> int:
    [found] = c.need(place).numbers("a position")
    if not -count <= found < count:
        raise CannotReadError(f"position {found} of {count} tensors")
    return found % count


@reads("SequenceConstruct", "SequenceEmpty")
def made(b: Builder, c: Call) -> Value:
    """A list of the inputs."""
    given = [c.need(place) for place in range(len(c.inputs))]
    return Value(c.proto.output[0], parts=tuple(given))


@reads("SequenceInsert")
def inserted(b: Builder, c: Call) -> Value:
    """A list with one more tensor, at its end or before a position."""
    parts = _parts(c.x)
    parts.insert(_place(c, 2, len(parts) + 1) if c.get(2) else len(parts), c.need(1))
    return Value(c.proto.output[0], parts=tuple(parts))


@reads("SplitToSequence")
def split(b: Builder, c: Call) -> Value:
    """Parts along a dimension, of one size or of several; without sizes, of 1."""
    axis = int(c.attribute("axis", 0)) % c.x.rank
    size, given = c.x.sizes[axis], c.get(1)
    sizes = given.numbers("sizes") if given else [1]
    if len(sizes) == 1:
        each = sizes[0]
        sizes = [min(each, size - start) for start in range(0, size, max(each, 1))]
    parts = pieces(b, c, axis, sizes)
    if given is None and not c.attribute("keepdims", 1):
        parts = [b.call(c, torch.squeeze, part, axis) for part in parts]
    return Value(c.proto.output[0], parts=tuple(parts))


@reads("SequenceAt")
def at(b: Builder, c: Call) -> Value:
    """One tensor of a list."""
    parts = _parts(c.x)
    return parts[_place(c, 1, len(parts))]


@reads("SequenceLength")
def length(b: Builder, c: Call) -> Value:
    """How many tensors a list has."""
    return Value(c.proto.output[0], torch.tensor(len(_parts(c.x))).numpy())


@reads("ConcatFromSequence")
def joined(b: Builder, c: Call) -> Value:
    """The tensors of a list as one, along a dimension they have or along a new one."""
    parts = _parts(c.x)
    if c.attribute("new_axis", 0):
        axis = int(c.attribute("axis")) % (parts[0].rank + 1)
        parts = [b.call(c, torch.unsqueeze, part, axis) for part in parts]
    whole = concat(b, Call(c.proto, [*parts], c.opset))
    assert isinstance(whole, Value)
    return whole
