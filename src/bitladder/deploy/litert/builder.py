"""A .tflite file while it is written: tensors with their grids, operators in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.deploy.litert.schema import schema

Array = NDArray[Any]
_TYPES = {"float32": "FLOAT32", "int8": "INT8", "int16": "INT16", "int32": "INT32"}
_TYPES |= {"int64": "INT64", "int4": "INT4", "uint8": "UINT8"}
_LARGEST_BYTE = 127  # codes of operators from here on do not fit the schema's older field


@dataclass(frozen=True)
class Grid:
    """Scale and zero point as LiteRT has them: of signed integers.

    Attributes:
        scale: float32, one number, or one for each channel.
        zero: of one number; 0 where there is a scale a channel.
        dtype: ``int4``, ``int8``, ``int16``, ``int32`` or ``int64``; ``uint8`` of images alone.
        axis: of the channels, or None.
    """

    scale: Array
    zero: int
    dtype: str
    axis: int | None = None

    def same(self, other: Grid | None) -> bool:
        """Whether both are one grid."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and (self.zero, self.dtype) == (other.zero, other.dtype)
        )

    def signed(self) -> Grid:
        """The same grid of unsigned bytes in signed ones."""
        return Grid(self.scale, self.zero - 128, "int8")


class Builder:
    """Tensors, operators and buffers of a model of one subgraph."""

    def __init__(self) -> None:
        s = self.schema = schema()
        self.model = s.ModelT()
        self.model.version, self.model.description = 3, "bitladder"
        self.graph = s.SubGraphT()
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs, self.model.buffers = [self.graph], [s.BufferT()]
        self.model.operatorCodes = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str, grid: Grid | None = None) -> int:
        """Add a tensor that an operator, or the caller, fills; its number."""
        made = self.schema.TensorT()
        made.name, made.shape, made.buffer = name, list(shape), 0
        made.type = getattr(self.schema.TensorType, _TYPES[dtype])
        if grid is not None:
            made.quantization = self._quantization(grid)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: Array, grid: Grid | None = None) -> int:
        """Add a constant; values on an ``int4`` grid are packed, two in a byte."""
        dtype = grid.dtype if grid is not None else str(values.dtype)
        place = self.tensor(name, values.shape, dtype, grid)
        buffer = self.schema.BufferT()
        packed = dtype == "int4"
        content: Array = nibbles(values) if packed else np.ascontiguousarray(values, dtype)
        buffer.data = np.frombuffer(content.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[place].buffer = len(self.model.buffers) - 1
        return place

    def name(self, place: int) -> str:
        """A tensor's name."""
        return str(self.graph.tensors[place].name)

    def rename(self, place: int, name: str) -> None:
        """Give a tensor another name."""
        self.graph.tensors[place].name = name

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        *,
        version: int = 1,
    ) -> None:
        """Add an operator by its name in ``BuiltinOperator``, with its options object."""
        s = self.schema
        number = getattr(s.BuiltinOperator, code)
        if (number, version) not in self._codes:
            entry = s.OperatorCodeT()
            entry.builtinCode, entry.version = number, version
            entry.deprecatedBuiltinCode = min(number, _LARGEST_BYTE)
            self.model.operatorCodes.append(entry)
            self._codes[number, version] = len(self.model.operatorCodes) - 1
        made = s.OperatorT()
        made.opcodeIndex = self._codes[number, version]
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(s.BuiltinOptions, kind)
            made.builtinOptions = options
        self.graph.operators.append(made)

    def options(self, name: str, **values: Any) -> Any:
        """An options object of the schema, such as ``Conv2DOptions``, with fields set."""
        made = getattr(self.schema, f"{name}T")()
        for field, value in values.items():
            setattr(made, field, value)
        return made

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file."""
        import flatbuffers

        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def describe(self, name: str, content: bytes) -> None:
        """Add an entry to the file's metadata."""
        buffer, entry = self.schema.BufferT(), self.schema.MetadataT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        entry.name, entry.buffer = name, len(self.model.buffers) - 1
        self.model.metadata = [*(self.model.metadata or []), entry]

    def _quantization(self, grid: Grid) -> Any:
        made = self.schema.QuantizationParametersT()
        made.scale = np.atleast_1d(np.float32(grid.scale)).tolist()
        made.zeroPoint = [grid.zero] * len(made.scale)
        made.quantizedDimension = grid.axis or 0
        return made


def nibbles(values: Array) -> NDArray[np.uint8]:
    """Signed 4-bit integers, two in a byte, the first in the lower half."""
    flat: Array = np.asarray(values, np.int8).ravel().view(np.uint8) & np.uint8(0xF)
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    packed: NDArray[np.uint8] = flat[::2] | flat[1::2] << 4
    return packed
