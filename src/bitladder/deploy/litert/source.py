"""A QDQ ONNX graph as the translation reads it: shapes, constants, grids and readers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.litert.builder import Array, Grid
from bitladder.errors import ExportError

_FROM_UNSIGNED = {"uint8": ("int8", 128), "uint16": ("int16", 32768)}
_LOWEST_16 = -32768


class Source:
    """A QDQ model with one image as its batch.

    Attributes:
        constants: float and integer constants by name.
        readers: nodes by the tensor that they read.
        makers: nodes by the tensor that they make.
        shapes: of all tensors.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        for value in (*model.graph.input, *model.graph.output):
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    dimension.dim_value = 1
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        self.graph = model.graph
        self.constants = {
            one.name: np.asarray(numpy_helper.to_array(one)) for one in self.graph.initializer
        }
        self.packed = {
            one.name for one in self.graph.initializer if one.data_type == TensorProto.INT4
        }
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.makers: dict[str, onnx.NodeProto] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
            self.makers |= dict.fromkeys(node.output, node)
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        self.shapes: dict[str, tuple[int, ...]] = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in values
        }
        self.shapes |= {name: value.shape for name, value in self.constants.items()}
        self.outputs = [value.name for value in self.graph.output]

    def grid(self, node: onnx.NodeProto) -> Grid:
        """The grid of a QuantizeLinear or DequantizeLinear, its integers signed.

        Raises:
            ExportError: zero points of channels differ from 0.
        """
        zero = self.constants[node.input[2]]
        scale = self.constants[node.input[1]].astype(np.float32)
        dtype = "int4" if node.input[2] in self.packed else str(zero.dtype)
        dtype, shift = _FROM_UNSIGNED.get(dtype, (dtype, 0))
        at = zero.astype(np.int64).ravel() - shift
        if np.any(at != at[0]) or (scale.ndim and at[0]):
            raise refuse(node, "weights with a scale a channel need zero point 0")
        if self.limit(node) is not None:
            return Grid(scale, 0, dtype, None)
        if dtype == "int16" and at[0]:
            if self._fits_around_0(node):
                return Grid(scale, 0, dtype)
            raise refuse(
                node,
                "16-bit activations need zero point 0, that is symmetric grids: calibrate with "
                "targets: [litert]",
            )
        axis = attributes(node).get("axis", 1) if scale.ndim else None
        return Grid(scale, int(at[0]), dtype, axis)

    def byte_grid(self, given: onnx.ValueInfoProto) -> Grid | None:
        """The grid of an input of bytes, None of one of floats.

        Raises:
            ExportError: something else than the pixels that bytes stand for is read of it.
        """
        if given.type.tensor_type.elem_type != TensorProto.UINT8:
            return None
        for node in self.readers[given.name]:
            if node.op_type != "DequantizeLinear":
                raise refuse(node, f"reads the bytes of '{given.name}' as they are")
        node = self.readers[given.name][0]
        scale, zero = (self.constants[name] for name in node.input[1:])
        return Grid(scale.astype(np.float32), int(zero.reshape(())), "uint8")

    def limit(self, node: onnx.NodeProto) -> tuple[str, int] | None:
        """What a QuantizeLinear to 16 bit clamps, of two of one scale that make a narrower grid.

        The first saturates at the grid's lowest value, such as a ReLU's 0, and the one behind it
        at the highest. Here integers lie around 0, and the format's own clamps saturate.

        Returns:
            ``MAXIMUM`` or ``MINIMUM`` and the integer, or None where nothing is clamped.
        """
        zero = self._zero_of_16(node) if node.op_type == "QuantizeLinear" else None
        if not zero:
            return None
        lowest, highest = np.iinfo(np.int16).min, np.iinfo(np.int16).max
        if zero < 0:
            behind = [reader for made in node.output for reader in self.readers[made]]
            second = [one for read in behind for out in read.output for one in self.readers[out]]
            there = bool(second) and all(self._is_pair(node, one, at_top=True) for one in second)
            return ("MAXIMUM", lowest - zero) if there else None
        before = self.makers.get(node.input[0])
        first = None if before is None else self.makers.get(before.input[0])
        there = first is not None and self._is_pair(node, first, at_top=False)
        return ("MINIMUM", highest - zero) if there else None

    def _is_pair(self, node: onnx.NodeProto, other: onnx.NodeProto, *, at_top: bool) -> bool:
        """Whether another QuantizeLinear of the same scale saturates no lower, or no higher."""
        zero = self._zero_of_16(other) if other.op_type == "QuantizeLinear" else None
        return (
            zero is not None
            and (zero >= 0 if at_top else zero <= 0)
            and np.array_equal(self.constants[other.input[1]], self.constants[node.input[1]])
        )

    def _zero_of_16(self, node: onnx.NodeProto) -> int | None:
        """The zero point of a grid of signed integers of 16 bit with one scale, or None."""
        zero = self.constants[node.input[2]]
        if zero.size != 1 or str(zero.dtype) not in ("int16", "uint16"):
            return None
        return int(zero.reshape(())) - (-_LOWEST_16 if zero.dtype == np.uint16 else 0)

    def integers(self, node: onnx.NodeProto) -> tuple[Array, Grid]:
        """Integers of a constant that a DequantizeLinear reads, as int64, with their grid."""
        grid = self.grid(node)
        values = self.constants[node.input[0]]
        if grid.dtype == "int16":
            return self._around_0(node), grid
        _, shift = _FROM_UNSIGNED.get(str(values.dtype), ("", 0))
        return values.astype(np.int64) - shift, grid

    def _around_0(self, node: onnx.NodeProto) -> Array:
        """Integers of a constant minus its zero point."""
        values, zero = (
            self.constants[name].astype(np.int64) for name in (node.input[0], node.input[2])
        )
        return np.asarray(values - zero)

    def _fits_around_0(self, node: onnx.NodeProto) -> bool:
        """Whether a node reads a constant whose values int16 holds with zero point 0."""
        if node.op_type != "DequantizeLinear" or node.input[0] not in self.constants:
            return False
        bounds, values = np.iinfo(np.int16), self._around_0(node)
        return bool((values >= bounds.min).all() and (values <= bounds.max).all())

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a constant, or a DequantizeLinear of one."""
        return name in self.constants or self.dequantizer(name) is not None

    def dequantizer(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear of a constant that makes a tensor, or None."""
        node = self.makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        return node if node.input[0] in self.constants else None

    def quantizer(self, name: str) -> onnx.NodeProto | None:
        """The one QuantizeLinear that reads a tensor, where nothing else does."""
        readers = self.readers[name]
        alone = len(readers) == 1 and name not in self.outputs
        return readers[0] if alone and readers[0].op_type == "QuantizeLinear" else None


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes, strings decoded."""
    found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def refuse(node: onnx.NodeProto, why: str = "it has no form in this format") -> ExportError:
    """The error that names an operator, its node and what is in the way."""
    place = node.name or (node.output[0] if node.output else "")
    return ExportError(f".tflite: {node.op_type} at '{place}': {why}")
