"""The walk over a QDQ graph: which tensor of the .tflite holds which tensor of the ONNX file.

A tensor is held in ONNX's order of dimensions or, behind operators of images, with the channels
last. Then ``perm`` is the transposition from ONNX's order to the one it is held in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from bitladder.deploy.litert.builder import Builder, Grid
from bitladder.deploy.litert.source import Source

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Held:
    """A tensor of the .tflite that holds one of the ONNX file.

    Attributes:
        place: number of the tensor.
        shape: in ONNX's order.
        perm: from ONNX's order to the held one, the identity where they are the same.
        grid: None where it is float32.
    """

    place: int
    shape: tuple[int, ...]
    perm: Perm
    grid: Grid | None

    @property
    def held_shape(self) -> tuple[int, ...]:
        """As it is held."""
        return tuple(self.shape[axis] for axis in self.perm)

    def axis(self, axis: int) -> int:
        """Where an axis of ONNX's order stands."""
        return self.perm.index(axis % len(self.shape))


def plain(rank: int) -> Perm:
    """ONNX's order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """(N, H, W, ...) of (N, ..., H, W); ranks below 4 keep ONNX's order."""
    return plain(rank) if rank < 4 else (0, rank - 2, rank - 1, *range(1, rank - 2))


class Walk:
    """What operators write through.

    Attributes:
        held: by the ONNX file's names.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.builder = source, Builder()
        self.held: dict[str, Held] = {}
        self._moved: dict[tuple[int, Perm], Held] = {}
        self._names: set[str] = set()

    def read(self, name: str, perm: Callable[[int], Perm] | None = None) -> Held:
        """A tensor, in an order of dimensions where one is asked for."""
        if name not in self.held:
            self.held[name] = self._constant(name)
        found = self.held[name]
        return found if perm is None else self.ordered(found, perm(len(found.shape)))

    def ordered(self, value: Held, perm: Perm) -> Held:
        """A tensor in an order of dimensions: transposed, or reshaped where only ones move."""
        if value.perm == perm:
            return value
        if (value.place, perm) not in self._moved:
            made = self.new("ordered", value.shape, value.grid, perm)
            order = [value.perm.index(axis) for axis in perm]
            real = [axis for axis in order if value.held_shape[axis] != 1]
            if real == sorted(real):
                self.reshape(value.place, made)
            else:
                axes = self.ints("order", order)
                options = self.builder.options("TransposeOptions")
                self.builder.op("TRANSPOSE", [value.place, axes], [made.place], options, version=2)
            self._moved[value.place, perm] = made
        return self._moved[value.place, perm]

    def reshape(self, place: int, made: Held) -> None:
        """Write a RESHAPE from a tensor to another."""
        shape = list(made.held_shape)
        options = self.builder.options("ReshapeOptions", newShape=shape)
        self.builder.op("RESHAPE", [place, self.ints("shape", shape)], [made.place], options)

    def new(
        self, name: str, shape: Sequence[int], grid: Grid | None, perm: Perm | None = None
    ) -> Held:
        """A new tensor."""
        shape = tuple(shape)
        perm = plain(len(shape)) if perm is None else perm
        held = [shape[axis] for axis in perm]
        dtype = "float32" if grid is None else grid.dtype
        place = self.builder.tensor(self.name(name), held, dtype, grid)
        return Held(place, shape, perm, grid)

    def name(self, wanted: str) -> str:
        """The name, or one with a number behind it where it is taken."""
        made, count = wanted, 1
        while made in self._names:
            count += 1
            made = f"{wanted}_{count}"
        self._names.add(made)
        return made

    def ints(self, name: str, values: Sequence[int]) -> int:
        """A constant of int32, such as axes."""
        return self.builder.constant(self.name(name), np.asarray(values, np.int32))

    def on(self, value: Held, grid: Grid | None) -> Held:
        """A tensor on a grid, by QUANTIZE or DEQUANTIZE where it is on another.

        Between two scales it passes float32, which rounds once. XNNPACK's direct conversion was
        off by one step in 6 to 8 % of the values of a test.
        """
        if value.grid is grid or (value.grid is not None and value.grid.same(grid)):
            return value
        if value.grid is not None and grid is not None and value.grid.scale != grid.scale:
            value = self.on(value, None)
        made = self.new("on_grid", value.shape, grid, value.perm)
        code = "QUANTIZE" if grid is not None else "DEQUANTIZE"
        options = self.builder.options(f"{code.capitalize()}Options")
        self.builder.op(code, [value.place], [made.place], options, version=2)
        return made

    def output(self, name: str) -> Held:
        """A result of the model, float and in ONNX's order, under its name."""
        value = self.on(self.read(name, plain), None)
        if self.builder.name(value.place) != name:
            self.builder.rename(value.place, self.name(name))
        return value

    def made(
        self,
        node: onnx.NodeProto,
        perm: Perm | None,
        inputs: Sequence[Held],
        fits: Callable[[Grid], bool] = lambda grid: True,
    ) -> Held:
        """The tensor for a node's result: on the grid of the quantizer that alone reads it.

        It is float where an input lies on no grid, no quantizer reads it, or the integer kernel
        cannot make that grid; the quantizer behind it then rounds it once, as in the ONNX file.
        """
        name = node.output[0]
        quantizer = self.source.quantizer(name)
        whole = quantizer is not None and all(one.grid is not None for one in inputs)
        whole = whole and quantizer is not None and fits(self.source.grid(quantizer))
        grid = self.source.grid(quantizer) if whole and quantizer is not None else None
        self.held[name] = self.new(name, self.source.shapes[name], grid, perm)
        return self.held[name]

    def same_kind(self, inputs: Sequence[Held], result: Held) -> list[Held]:
        """Inputs in float where the result is."""
        return [self.on(one, None) for one in inputs] if result.grid is None else list(inputs)

    def carry(self, name: str, value: Held) -> None:
        """Give a result of movement the tensor that holds it."""
        self.held[name] = value

    def _constant(self, name: str) -> Held:
        node = self.source.dequantizer(name)
        if node is None:
            values = self.source.constants[name].astype(np.float32)
            place = self.builder.constant(self.name(name), values)
            return Held(place, values.shape, plain(values.ndim), None)
        integers, grid = self.source.integers(node)
        place = self.builder.constant(self.name(name), integers, grid)
        return Held(place, integers.shape, plain(integers.ndim), grid)


def quantize(walk: Walk, node: onnx.NodeProto) -> None:
    """QuantizeLinear: nothing where its input was written on that grid, else QUANTIZE.

    Integers of 16 bit lie around 0 in this format, so that one that saturates elsewhere is a clamp.
    """
    value, limit = (
        walk.on(walk.read(node.input[0]), walk.source.grid(node)),
        walk.source.limit(node),
    )
    if limit is not None:
        made = walk.new("clamped", value.shape, value.grid, value.perm)
        if limit == ("MAXIMUM", 0):
            walk.builder.op("RELU", [value.place], [made.place], version=2)
        else:
            kind, integer = limit
            held = walk.builder.constant(walk.name("limit"), np.asarray([integer]), value.grid)
            options = walk.builder.options("MaximumMinimumOptions")
            walk.builder.op(kind, [value.place, held], [made.place], options, version=2)
        value = made
    walk.carry(node.output[0], value)


def dequantize(walk: Walk, node: onnx.NodeProto) -> None:
    """DequantizeLinear: its readers read the integers."""
    if node.input[0] not in walk.source.constants:
        walk.carry(node.output[0], walk.read(node.input[0]))


def identity(walk: Walk, node: onnx.NodeProto) -> None:
    """Identity: the same tensor."""
    walk.carry(node.output[0], walk.read(node.input[0]))


Writer = Callable[[Walk, onnx.NodeProto], None]
