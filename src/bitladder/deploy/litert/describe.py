"""What a .tflite file holds: operators, tensors with their grids, bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitladder.deploy.description import KEY, Description, parse_description
from bitladder.deploy.litert.schema import schema
from bitladder.errors import ExportError
from bitladder.outside import read_bytes

_MAGIC = b"TFL3"
_FREE = {"DEQUANTIZE", "RESHAPE", "TRANSPOSE"}  # at the float edges of a file


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor: ``scale`` and ``zero_point`` are empty where it is on no grid."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    bytes: int


@dataclass(frozen=True)
class TfliteOperator:
    """An operator with the numbers of the tensors that it reads and makes."""

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Tflite:
    """The first subgraph of a file."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    file_bytes: int
    description: Description | None = None

    @property
    def floats(self) -> tuple[str, ...]:
        """Operators that compute in float, a line a kind."""
        found = Counter(
            one.kind
            for one in self.operators
            if one.kind not in _FREE and self.tensors[one.outputs[0]].dtype == "FLOAT32"
        )
        return tuple(f"{count} {kind} computed in float" for kind, count in sorted(found.items()))

    @property
    def steps(self) -> dict[str, float]:
        """Scale of the integers of each output that lies on a grid, by its name."""
        found = {place: self._step(place) for place in self.outputs}
        return {self.tensors[place].name: step for place, step in found.items() if step is not None}

    def _step(self, place: int) -> float | None:
        makers = {made: one for one in self.operators for made in one.outputs}
        while place in makers and makers[place].kind in _FREE:
            place = makers[place].inputs[0]
            if scale := self.tensors[place].scale:
                return scale[0]
        return None


def read_tflite(path: Path) -> Tflite:
    """Read a file.

    Raises:
        ExportError: it cannot be read or is no .tflite file, or LiteRT is not installed.
    """
    return parse_tflite(read_bytes(path, refusal=ExportError), str(path))


def parse_tflite(content: bytes, where: str) -> Tflite:
    """The content of a file; ``where`` is what errors call it.

    Raises:
        ExportError: it is no .tflite file, or LiteRT is not installed.
    """
    if content[4:8] != _MAGIC:
        raise ExportError(f"{where}: not a .tflite file")
    s = schema()
    try:
        model = s.ModelT.InitFromObj(s.Model.GetRootAs(content, 0))
        graph = model.subgraphs[0]
        types, kinds = _names(s.TensorType), _names(s.BuiltinOperator)
        codes = model.operatorCodes
        return Tflite(
            tuple(_tensor(one, types, model.buffers) for one in graph.tensors),
            tuple(
                _operator(codes[one.opcodeIndex], kinds, _ints(one.inputs), _ints(one.outputs))
                for one in graph.operators
            ),
            _ints(graph.inputs),
            _ints(graph.outputs),
            len(content),
            _description(model),
        )
    except Exception as error:  # a damaged flatbuffer fails in any way
        raise ExportError(
            f"{where}: a damaged .tflite file: {' '.join(str(error).split())}"
        ) from None


def _description(model: Any) -> Description | None:
    for entry in model.metadata or ():
        if entry.name in (KEY, KEY.encode()):
            return parse_description(bytes(model.buffers[entry.buffer].data).decode())
    return None


def _operator(
    code: Any, kinds: dict[int, str], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> TfliteOperator:
    return TfliteOperator(kinds[code.builtinCode], code.version, inputs, outputs)


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in values)


def _names(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


def _tensor(made: Any, types: dict[int, str], buffers: list[Any]) -> TfliteTensor:
    grid, content = made.quantization, buffers[made.buffer].data
    scaled = grid is not None and grid.scale is not None
    name = made.name
    return TfliteTensor(
        name=name.decode() if isinstance(name, bytes) else name,
        shape=() if made.shape is None else _ints(made.shape),
        dtype=types[made.type],
        scale=tuple(float(one) for one in grid.scale) if scaled else (),
        zero_point=_ints(grid.zeroPoint) if scaled else (),
        axis=int(grid.quantizedDimension) if grid is not None else 0,
        bytes=0 if content is None else len(content),
    )
