"""An operator of a .tflite with its tensors, as the arithmetic reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.deploy.litert.schema import schema
from bitladder.errors import TargetError

Array = NDArray[Any]
_TYPES: dict[str, Any] = {
    "FLOAT32": np.float32,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "UINT8": np.uint8,
}
_TYPES |= {"INT64": np.int64, "INT4": np.int8, "BOOL": np.bool_}  # int4 in integers of 8 bit


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        place: its number.
        shape: as the file has it, for one image.
        dtype: in NumPy; None for one that no kernel here reads.
        scale: float32, one or one a channel; empty where it lies on no grid.
        zero: its zero point.
        values: of a constant, otherwise None.
    """

    place: int
    shape: tuple[int, ...]
    dtype: Any
    scale: NDArray[np.float32]
    zero: int
    values: Array | None

    @property
    def step(self) -> np.float32:
        """The one scale of an activation."""
        return np.float32(self.scale[0])

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest integer of its type."""
        found = np.iinfo(self.dtype)
        return int(found.min), int(found.max)


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        number: its place in the file.
        kind: its name in ``BuiltinOperator``.
        inputs: its tensors, None for an optional one that is not there.
        options: its options object, or None.
        kernels: whose kernel runs it: ``xnnpack``, ``builtin`` or ``reference``.
    """

    number: int
    kind: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any
    kernels: str

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.given(0)

    @property
    def y(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    def given(self, place: int) -> Tensor:
        """An input that has to be there."""
        found = self.inputs[place]
        assert found is not None
        return found

    def fixed(self, place: int) -> Array:
        """An input that has to be a constant.

        Raises:
            TargetError: it is none.
        """
        values = self.given(place).values
        if values is None:
            raise self.refuse("an input that follows from the images")
        return values

    def option(self, name: str, default: Any = 0) -> Any:
        """A field of its options."""
        return default if self.options is None else getattr(self.options, name)

    @property
    def on_integers(self) -> bool:
        """Whether what it reads first and what it makes are integers on grids."""
        given = self.given(2) if self.kind == "TRANSPOSE_CONV" else self.x
        return bool(given.scale.size and self.y.scale.size)

    def refuse(self, why: str) -> TargetError:
        """The error that says that it cannot be computed exactly."""
        return TargetError(f"no integer arithmetic of LiteRT is known for {self.kind}: {why}")


Kernel = Callable[[Operator, Sequence[Any]], Any]


@dataclass(frozen=True)
class File:
    """The first subgraph of a file.

    Attributes:
        model: as the schema's classes have it.
        inputs: numbers of tensors.
        outputs: likewise.
        names: of the outputs.
    """

    model: Any
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    names: list[str]


def read_operators(content: bytes) -> File:
    """What a file holds; whose kernels run an operator is left open."""
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    types = {v: k for k, v in vars(s.TensorType).items() if isinstance(v, int)}
    kinds = {v: k for k, v in vars(s.BuiltinOperator).items() if isinstance(v, int)}
    tensors = [
        _tensor(place, one, types[one.type], model.buffers)
        for place, one in enumerate(graph.tensors)
    ]
    operators = [
        Operator(
            number,
            kinds[model.operatorCodes[one.opcodeIndex].builtinCode],
            tuple(tensors[place] if place >= 0 else None for place in one.inputs),
            tuple(tensors[place] for place in one.outputs),
            one.builtinOptions,
            "",
        )
        for number, one in enumerate(graph.operators)
    ]
    outputs = list(map(int, graph.outputs))
    names = [_text(graph.tensors[place].name) for place in outputs]
    return File(model, tensors, operators, list(map(int, graph.inputs)), outputs, names)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _tensor(place: int, made: Any, kind: str, buffers: list[Any]) -> Tensor:
    shape = () if made.shape is None else tuple(int(size) for size in made.shape)
    grid, dtype = made.quantization, _TYPES.get(kind)
    scaled = grid is not None and grid.scale is not None
    scale = np.asarray(grid.scale if scaled else [], np.float32)
    zero = int(grid.zeroPoint[0]) if scaled and grid.zeroPoint is not None else 0
    content = buffers[made.buffer].data if made.buffer else None
    values: Array | None = None
    if content is not None and dtype is not None:
        raw = np.asarray(content, np.uint8)
        flat = _unpacked(raw) if kind == "INT4" else raw.view(dtype)
        values = flat[: int(np.prod(shape))].reshape(shape)
    return Tensor(place, shape, dtype, scale, zero, values)


def _unpacked(raw: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Two signed 4-bit integers of a byte, the lower half first."""
    halves = np.stack([raw << 4, raw & 0xF0], -1).view(np.int8) >> 4
    made: NDArray[np.int8] = halves.reshape(-1)
    return made
