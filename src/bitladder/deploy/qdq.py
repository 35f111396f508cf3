"""Write a simulated network as QDQ ONNX, which runtimes execute on integers, at any width.

Weights of a width that ONNX has no type for are 8 or 16-bit integers that use a part of the range;
activations see ``pairs``. A bias is int32 at the scale of input times weight, which is what integer
kernels add to their sums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from bitladder.deploy.encodings import Encoding, encoding_of
from bitladder.deploy.observe import Observed, renamed
from bitladder.deploy.pairs import TYPES, QuantizePairs
from bitladder.deploy.saturation import can_saturate
from bitladder.deploy.writer import FileWriter, parameter_quantizer
from bitladder.operators import Call, Operator, Value
from bitladder.operators.writing import Input
from bitladder.options import WeightType
from bitladder.simulation import SimulatedModel
from bitladder.simulation.aimet import output_quantizer

QUANTIZERS = "bitladder.quantizers"
"""Key of the file's metadata: which tensor holds what each quantizer of the simulation made."""
INT32_MAX = 2**31 - 1
_MIDDLE = 128  # from int8 to uint8


class QdqWriter(FileWriter):
    """Writes grids as QuantizeLinear and DequantizeLinear.

    Args:
        simulated: a calibrated network.
        seen: what its nodes return.
        int4: store signed 4-bit weights with a scale a channel as int4 in place of int8.
        one_sign: give both quantizers of a narrow activation one type. The HTP refuses two, where
            ONNX Runtime on the CPU merges two pairs of one type into a grid that is neither's.
        weights: type of layers' signed weights of up to 8 bit: ``int8``; ``uint8``, which are the
            integers plus 128 with zero point 128; or ``auto``, uint8 for those alone that
            ``can_saturate``.
    """

    def __init__(
        self,
        simulated: SimulatedModel,
        seen: Mapping[fx.Node, Observed],
        *,
        int4: bool = False,
        one_sign: bool = False,
        weights: WeightType = "int8",
    ) -> None:
        super().__init__(simulated, seen)
        self.int4, self.weights = int4, weights
        self.whole = self.htp = one_sign
        self.pairs = QuantizePairs(self.graph, one_sign=one_sign)
        self._entered: dict[tuple[str, str], str] = {}  # values on the grids of their readers

    def write(self) -> onnx.ModelProto:
        """Walk the network and return the model."""
        model = super().write()
        there = {name for node in model.graph.node for name in node.output}
        held = {name: self._holder(value) for name, value in self.passed.items()}
        content = json.dumps({k: v for k, v in held.items() if v in there}, sort_keys=True)
        model.metadata_props.add(key=QUANTIZERS, value=content)
        return model

    def _holder(self, value: str) -> str:
        """The tensor that holds a value after its grid."""
        read = self.pairs.holder(value)
        return self.finished.get(read, read)

    def number(self, call: Call, value: float) -> str:
        """A number that a grid of two integers holds exactly, where its neighbours are integers."""
        tensors = [one for one in call.args if isinstance(one, Value)]
        grid = self.grids.get(tensors[0].name) if tensors else None
        if grid is None or output_quantizer(call.module) is None or not np.isfinite(value):
            return super().number(call, value)
        scale = np.asarray(abs(value) or 1.0, np.float32)
        name = self.graph.new_name(f"{call.name}_number")
        dtype = TYPES[grid.container_bits, False]
        zero = np.asarray(value < 0, dtype)
        integer = np.asarray(value > 0, dtype)
        inputs = [
            self.graph.tensor(f"{name}_integer", integer),
            self.graph.tensor(f"{name}_scale", scale),
            self.graph.tensor(f"{name}_zero_point", zero),
        ]
        self.graph.add("DequantizeLinear", inputs, [name])
        return name

    def bias(self, call: Call) -> str | None:
        """The bias as the int32 that the kernel adds, where the layer runs on integers."""
        layer: Any = call.module
        if layer.bias is None:
            return None
        given, quantizer = self.grids.get(call.x.name), parameter_quantizer(layer, "weight")
        if given is None or given.axis is not None or quantizer is None:
            return self.parameter(call, "bias")
        values = layer.bias.detach().cpu().float().numpy()
        scale = bias_scale(given, encoding_of("weight", quantizer), values.size)
        integers = bias_integers(values, scale)
        name = self.graph.new_name(f"{call.name}_bias")
        zeros = np.zeros(scale.shape, np.int64)
        axis = 0 if scale.ndim else None
        return self._integers(name, integers, scale, zeros, np.dtype(np.int32), axis)

    def _clamped(self, operator: Operator, call: Call) -> str | list[str]:
        """Nothing: the grid saturates as the operator clamps."""
        return self._read(call.x)

    def _entering(self, value: Value, quantizer: Any) -> Value:
        if not quantizer.is_initialized():
            return value
        name = self._names[id(quantizer)]
        if (value.name, name) in self._entered:
            return renamed(value, self._entered[value.name, name])
        encoding = self._encoding(quantizer)
        fresh = self.graph.new_name(f"{value.name}_on_{name}")
        if value.constant is not None:
            written = self._parameter(fresh, value.constant.astype(np.float32), encoding)
            self.grids[fresh] = encoding
            self.pairs.hold(fresh, written)
        else:
            self._put(fresh, self._read(value), encoding)
        self._entered[value.name, name] = fresh
        self.passed.setdefault(name, fresh)
        return renamed(value, fresh)

    def _carried(self, name: str) -> Encoding | None:
        return self.grids.get(name)

    def _leaving(self, value: Value, source: str, encoding: Encoding) -> None:
        self._put(value.name, source, encoding)

    def _regridded(self, name: str, encoding: Encoding) -> str:
        self._put(name, name, encoding)
        return self._read(name)

    def _read(self, value: Input | None) -> str:
        name = value if isinstance(value, str) else value.name if value is not None else ""
        return self.pairs.read(name) or super()._read(value)

    def _put(self, name: str, source: str, encoding: Encoding) -> None:
        self.grids[name] = encoding
        self.pairs.put(name, source, encoding)

    def _parameter(self, name: str, values: Any, encoding: Encoding | None) -> str:
        if encoding is None:
            return super()._parameter(name, values, None)
        integers = encoding.quantize(values)
        narrow = self.int4 and encoding.bits == 4 and encoding.signed and encoding.axis is not None
        dtype = None if narrow else TYPES[encoding.container_bits, encoding.signed]
        zero_point = encoding.zero_point
        if dtype == np.int8 and self._is_unsigned(integers, encoding.axis):
            dtype = np.dtype(np.uint8)
            integers, zero_point = integers + _MIDDLE, zero_point + _MIDDLE
        unique = self.graph.new_name(name)
        return self._integers(unique, integers, encoding.scale, zero_point, dtype, encoding.axis)

    def _is_unsigned(self, integers: NDArray[np.int64], axis: int | None) -> bool:
        """Whether signed weights of the layer that is being written are stored as uint8."""
        operator = None if self._at is None else self._operator(self._at)
        if operator is None or operator.family != "convolution":
            return False
        return self.weights == "uint8" or (self.weights == "auto" and can_saturate(integers, axis))

    def _integers(
        self,
        name: str,
        integers: NDArray[np.int64],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.int64],
        dtype: np.dtype[Any] | None,
        axis: int | None,
    ) -> str:
        """Write integers of a type, int4 where it is None, and the node that dequantizes them."""
        held = [
            self.graph.nibbles(key, values)
            if dtype is None
            else self.graph.tensor(key, values.astype(dtype))
            for key, values in (
                (f"{name}_integers", integers),
                (f"{name}_zero_point", zero_point),
            )
        ]
        inputs = [held[0], self.graph.tensor(f"{name}_scale", scale), held[1]]
        attributes = {} if axis is None else {"axis": axis}
        result = f"{name}_dequantized"
        self.graph.add("DequantizeLinear", inputs, [result], **attributes)
        return result


def bias_scale(given: Encoding, kernel: Encoding, count: int) -> NDArray[np.float32]:
    """The scale of a bias: input times weight, one, or one for each of ``count`` outputs.

    A grouped transposed convolution has a scale for each channel of a group.
    """
    scale = np.asarray(given.scale * kernel.scale, np.float32)
    if scale.ndim and scale.size != count:
        scale = np.tile(scale, count // scale.size)
    return scale


def bias_integers(values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int64]:
    """A bias as the integers that a kernel adds to its sums."""
    integers = np.rint(values.astype(np.float64) / scale)
    return np.clip(integers, -INT32_MAX, INT32_MAX).astype(np.int64)
