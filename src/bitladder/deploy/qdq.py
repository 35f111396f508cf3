"""Write encodings into a float ONNX graph as QuantizeLinear and DequantizeLinear, at any width.

Integers that no ONNX type has live in the next larger one, exactly: narrow weights are 8 or 16-bit
integers that use a part of the range; a narrow activation passes two quantizers at one scale, of
which the first saturates at the bottom of its grid and the second, of the other signedness, at the
top. A bias is int32 at the scale of input times weight, which is what integer kernels add to
their sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.encodings import Encoding
from bitladder.deploy.graph import initializers
from bitladder.deploy.saturation import can_saturate
from bitladder.options import WeightType

_OPSET_INT16 = 21  # also the first with int4
_TYPES: dict[tuple[int, bool], np.dtype[Any]] = {
    (8, False): np.dtype(np.uint8),
    (8, True): np.dtype(np.int8),
    (16, False): np.dtype(np.uint16),
    (16, True): np.dtype(np.int16),
}
_INT32_MAX = 2**31 - 1
_MIDDLE = 128  # from int8 to uint8
_CLIPPING = {"Clip", "Relu"}
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Operations that hand values on unchanged: their outputs lie on the grid of their input.
MOVEMENT = {
    "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip


def quantize_graph(
    model: onnx.ModelProto,
    encodings: Mapping[str, Encoding],
    *,
    int4: bool = False,
    one_sign: bool = False,
    weights: WeightType = "int8",
) -> onnx.ModelProto:
    """Return a QDQ graph that computes what the encodings simulate.

    Args:
        model: a float graph; it is not changed.
        encodings: by tensor name; activations and weights without one stay float.
        int4: store signed 4-bit weights with a scale a channel as int4 in place of int8.
        one_sign: give both quantizers of a narrow activation one type. The HTP refuses two, where
            ONNX Runtime on the CPU merges two pairs of one type into a grid that is neither's.
        weights: type of layers' signed weights of up to 8 bit: ``int8``; ``uint8``, which are the
            integers plus 128 with zero point 128; or ``auto``, uint8 for those alone that
            ``can_saturate``.
    """
    writer = _Writer(
        _modern(model, encodings, int4), encodings, int4=int4, one_sign=one_sign, weights=weights
    )
    return writer.write()


def integer_biases(
    model: onnx.ModelProto, encodings: Mapping[str, Encoding]
) -> dict[str, NDArray[np.float32]]:
    """What the int32 biases of ``quantize_graph`` stand for, by the name of the float bias.

    A bias that layers with different grids share has no one value and is left out.
    """
    writer = _Writer(_modern(model, encodings, int4=False), encodings, int4=False, one_sign=False)
    writer.write()
    return {
        name: found[0]
        for name, found in writer.biases.items()
        if all(np.array_equal(found[0], other) for other in found)
    }


def _modern(
    model: onnx.ModelProto, encodings: Mapping[str, Encoding], int4: bool
) -> onnx.ModelProto:
    """The graph at an operation set that has the integers it will hold."""
    narrow = int4 and any(encoding.bits == 4 for encoding in encodings.values())
    if narrow or any(encoding.container_bits == 16 for encoding in encodings.values()):
        return onnx.version_converter.convert_version(model, _OPSET_INT16)
    return model


class _Writer:
    """One pass over the nodes in order; what it writes goes through the lists at its end."""

    def __init__(
        self,
        model: onnx.ModelProto,
        encodings: Mapping[str, Encoding],
        *,
        int4: bool,
        one_sign: bool,
        weights: WeightType = "int8",
    ) -> None:
        self.model = model
        self.int4, self.one_sign, self.weights = int4, one_sign, weights
        self.constants = initializers(model.graph)
        self.superfluous: set[str] = set()  # outputs of activations that their grid replaces
        self.encodings = self._without_fused(encodings)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.reads: dict[str, str] = {}  # what a reader of a tensor now reads
        self.narrow: dict[str, int] = {}  # readers so far of activations in a larger container
        self.biases: dict[str, list[NDArray[np.float32]]] = {}  # what their integers stand for

    def write(self) -> onnx.ModelProto:
        written = onnx.ModelProto()
        written.CopyFrom(self.model)
        for value in written.graph.input:
            if value.name in self.encodings:
                self._activation(value.name, value.name, f"{value.name}_dequantized")
        outputs = {value.name for value in written.graph.output}
        for node in written.graph.node:
            self._node(node, outputs)
        read = {name for node in self.nodes for name in node.input}
        for name in read & self.constants.keys():
            self.tensors[name] = self.constants[name]
        del written.graph.node[:], written.graph.initializer[:]
        written.graph.node.extend(self.nodes)
        written.graph.initializer.extend(self.tensors[name] for name in sorted(self.tensors))
        onnx.checker.check_model(written)
        return written

    def _without_fused(self, encodings: Mapping[str, Encoding]) -> dict[str, Encoding]:
        """Let the grid behind a Relu or Clip do its work, and leave out the grid before it.

        A grid that ends at the activation's bounds saturates as the activation does, so that
        runtimes take layer, activation and rounding as one. The bounds of a Clip stay float.
        """
        kept = dict(encodings)
        readers = Counter(name for node in self.model.graph.node for name in node.input)
        for node in self.model.graph.node:
            if node.op_type not in _CLIPPING:
                continue
            bounds = [
                float(numpy_helper.to_array(self.constants[name]))
                for name in node.input[1:]
                if name in self.constants
            ]
            low, high = bounds if len(bounds) == 2 else (0.0, np.inf)
            for name in node.input[1:]:
                kept.pop(name, None)
            before, after = encodings.get(node.input[0]), encodings.get(node.output[0])
            if after is None or after.axis is not None:
                continue
            kept[node.output[0]] = after.within(low, high)
            self.superfluous.add(node.output[0])
            if readers[node.input[0]] == 1 and before is not None:
                kept.pop(node.input[0])
        return kept

    def _node(self, source: onnx.NodeProto, outputs: set[str]) -> None:
        if source.output[0] in self.superfluous:
            name = source.output[0]
            result = name if name in outputs else f"{name}_dequantized"
            self._activation(name, self._read(source.input[0]), result)
            return
        node = onnx.NodeProto()
        node.CopyFrom(source)
        for index, name in enumerate(source.input):
            if index == 2 and node.op_type in _LAYERS and name in self.constants:
                node.input[index] = self._bias(source)
            elif name in self.constants and name in self.encodings:
                node.input[index] = self._weight(name, source.op_type in _LAYERS)
            else:
                node.input[index] = self._read(name)
        self.nodes.append(node)
        moved = self.encodings.get(source.input[0]) if node.op_type in MOVEMENT else None
        for index, name in enumerate(source.output):
            if moved is not None and moved.axis is None:
                self.encodings.setdefault(name, moved)  # so that it runs on integers too
            if name not in self.encodings:
                continue
            if name in outputs:  # its name is the user's, so what comes before it is renamed
                node.output[index] = f"{name}_float"
                self._activation(name, f"{name}_float", name)
            else:
                self._activation(name, name, f"{name}_dequantized")

    def _activation(self, name: str, source: str, result: str) -> None:
        encoding = self.encodings[name]
        dtype = _TYPES[encoding.container_bits, encoding.signed]
        zero_point = encoding.zero_point - encoding.integer_min + np.iinfo(dtype).min
        if not encoding.narrow:
            self._pair(source, result, encoding, zero_point.astype(dtype))
            self.reads[name] = result
            return
        self.reads[name] = f"{name}_bottom"
        self._pair(source, self.reads[name], encoding, zero_point.astype(dtype))
        self.narrow[name] = 0
        if name == result:  # the graph's output, which no node reads
            self._saturate(name, result)

    def _saturate(self, name: str, result: str) -> None:
        """The second quantizer of a narrow activation, which saturates at the top of its grid."""
        encoding = self.encodings[name]
        dtype = _TYPES[encoding.container_bits, encoding.signed == self.one_sign]
        zero_point = encoding.zero_point + (np.iinfo(dtype).max - encoding.integer_max)
        self._pair(self.reads[name], result, encoding, zero_point.astype(dtype))

    def _read(self, name: str) -> str:
        """What a reader of a tensor reads: of a narrow one a saturated copy of its own.

        ONNX Runtime turns int8 into the uint8 of its kernels only where there is one reader.
        """
        if name not in self.narrow:
            return self.reads.get(name, name)
        self.narrow[name] += 1
        result = f"{name}_dequantized_{self.narrow[name]}"
        self._saturate(name, result)
        return result

    def _pair(
        self, source: str, result: str, encoding: Encoding, zero_point: NDArray[np.generic]
    ) -> None:
        grid = [
            self._tensor(f"{result}_scale", encoding.scale),
            self._tensor(f"{result}_zero_point", zero_point),
        ]
        axis = {} if encoding.axis is None else {"axis": encoding.axis}
        integers = f"{result}_integers"
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *grid], [integers], **axis),
            helper.make_node("DequantizeLinear", [integers, *grid], [result], **axis),
        ]

    def _weight(self, name: str, of_layer: bool) -> str:
        if name not in self.reads:
            encoding = self.encodings[name]
            integers = encoding.quantize(numpy_helper.to_array(self.constants[name]))
            narrow = (
                self.int4 and encoding.bits == 4 and encoding.signed and encoding.axis is not None
            )
            dtype = None if narrow else _TYPES[encoding.container_bits, encoding.signed]
            zero_point = encoding.zero_point
            if dtype == np.int8 and of_layer and self._unsigned(integers, encoding.axis):
                integers, zero_point = integers + _MIDDLE, zero_point + _MIDDLE
                dtype = np.dtype(np.uint8)
            self._constant(name, integers, encoding.scale, zero_point, dtype, encoding.axis)
        return self.reads[name]

    def _unsigned(self, integers: NDArray[np.int64], axis: int | None) -> bool:
        """Whether signed weights are written as uint8."""
        return self.weights == "uint8" or (self.weights == "auto" and can_saturate(integers, axis))

    def _bias(self, node: onnx.NodeProto) -> str:
        """Round a bias to the integers that the kernel adds, where the layer runs on integers."""
        data, weight, name = map(str, node.input[:3])
        given, kernel = self.encodings.get(data), self.encodings.get(weight)
        if given is None or kernel is None:
            return name
        scale = np.asarray(given.scale * kernel.scale, np.float32)
        values = numpy_helper.to_array(self.constants[name]).astype(np.float64)
        # 16-bit grids can be finer than 32 bits reach; such layers are not summed as int32 anyway.
        reach = np.abs(values) / _INT32_MAX
        scale = np.maximum(scale, reach if scale.ndim else reach.max()).astype(np.float32)
        integers = np.clip(np.rint(values / scale), -_INT32_MAX, _INT32_MAX)
        self.biases.setdefault(name, []).append((integers * scale).astype(np.float32))
        unique = f"{node.output[0]}_bias"  # layers may share a bias, not its scale
        zeros = np.zeros(scale.shape, np.int64)
        axis = 0 if scale.ndim else None
        self._constant(unique, integers.astype(np.int64), scale, zeros, np.dtype(np.int32), axis)
        return self.reads[unique]

    def _constant(
        self,
        name: str,
        integers: NDArray[np.int64],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int64],
        dtype: np.dtype[Any] | None,
        axis: int | None,
    ) -> None:
        """Write integers of a type, int4 where it is None, and the node that dequantizes them."""
        inputs = [
            self._integers(f"{name}_integers", integers, dtype),
            self._tensor(f"{name}_scale", scale),
            self._integers(f"{name}_zero_point", zero_point, dtype),
        ]
        attributes = {} if axis is None else {"axis": axis}
        result = f"{name}_dequantized"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [result], **attributes))
        self.reads[name] = result

    def _integers(self, name: str, values: NDArray[np.int64], dtype: np.dtype[Any] | None) -> str:
        if dtype is not None:
            return self._tensor(name, values.astype(dtype))
        nibbles = values.ravel().astype(np.uint8) & 0xF
        nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
        packed = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
        self.tensors[name] = helper.make_tensor(
            name, TensorProto.INT4, values.shape, packed, raw=True
        )
        return name

    def _tensor(self, name: str, values: NDArray[Any]) -> str:
        self.tensors[name] = numpy_helper.from_array(np.asarray(values), name)
        return name
