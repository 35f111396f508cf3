"""Walk an ONNX file's nodes, fold what is constant, and let readers make the rest."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

from bitladder.errors import ModelError
from bitladder.models.onnx_file.builder import (
    Builder,
    Call,
    CannotReadError,
    Value,
    array_of,
    kind_of,
)
from bitladder.models.onnx_file.comparison import compare
from bitladder.models.onnx_file.folding import UNFOLDED, Folding, size_of
from bitladder.models.onnx_file.readers import READERS
from bitladder.models.onnx_file.reading import LARGEST, names_read, read
from bitladder.structures import NOTES
from bitladder.user_code import one_line

_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64,
          2: torch.uint8, 3: torch.int8}  # fmt: skip
_FOLDED = {"Constant", "Shape", "Size", "ConstantOfShape", "If", "Range", "EyeLike"}
_OLDEST = 7
_TAILS = {"NonMaxSuppression", "NonZero", "Unique", "Compress", "ai.onnx.ml.ZipMap",
          "ai.onnx.ml.ArrayFeatureExtractor", "ai.onnx.ml.LabelEncoder"}  # fmt: skip
"""What picks results by their values at a network's end, as many as there are: no tensor of known
sizes. It is left out with all that follows."""


@dataclass(frozen=True)
class ImportedNetwork:
    """A network that was read from an ONNX file.

    Attributes:
        module: takes the inputs in their order; gives the output, or outputs by name.
        inputs: names of the inputs in the file.
        shapes: of one image or signal of each input, without the batch.
        outputs: names of the outputs in the file, and of what an end that is left out reads.
        opset: of the file.

    What is left out is told in ``module.meta[structures.NOTES]``.
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    outputs: tuple[str, ...]
    opset: int


def load(
    path: str | Path,
    input_shapes: Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | None = None,
) -> ImportedNetwork:
    """Read a float ONNX file of any origin as a torch.fx graph of ordinary modules.

    Everything that depends on sizes alone is computed at once; the number of images stays free,
    even where the file fixes it. The result is run beside ONNX Runtime before it is returned.

    Args:
        path: an ``.onnx`` file, opset 7 or newer.
        input_shapes: shapes of one image or signal of each input, without the batch, in order or
            by name, where the file leaves a dimension open.

    Raises:
        ModelError: the file is damaged or quantized, an input's size is open, an operator cannot be
            read (all are named at once), or outputs are not those of ONNX Runtime.
    """
    path = Path(path)
    model = read(path)
    reading = _Reading(path, model)
    for info in reading.real_inputs:
        reading.add_input(info, input_shapes)
    with _quiet():
        reading.walk(model.graph)
    network = reading.finish()
    compare(path, model, network, reading.batch)
    return network


def from_onnx(path: str | Path, shapes: Sequence[Sequence[int]]) -> fx.GraphModule:
    """The network in an ONNX file, for images or signals of these shapes, without the batch.

    Raises:
        ModelError: as ``load``.
    """
    return load(path, shapes).module


def input_count(path: str | Path) -> int:
    """How many inputs the network in an ONNX file takes.

    Raises:
        ModelError: the file cannot be read.
    """
    return len(real_inputs(read(Path(path))))


class _Reading:
    """One file while it is read."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        self.path, self.model = path, model
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        if self.opset < _OLDEST:
            raise ModelError(f"{path}: opset {self.opset}; files of opset {_OLDEST} on are read")
        self.real_inputs = real_inputs(model)
        if not self.real_inputs:
            raise ModelError(f"{path}: the graph has no inputs; export it again with its inputs")
        self.batch = _batch(path, self.real_inputs)
        self.builder = Builder(self.batch)
        self.folding = Folding(model)
        self.values: dict[str, Value] = {}
        self.shapes: list[tuple[int, ...]] = []
        self.faults: list[str] = []
        self.unread: set[str] = set()
        self.tails: list[str] = []  # operators that are left out, and what the rest reads
        self.frontier: dict[str, Value] = {}
        self.read = Counter(names_read(model.graph))
        self.biases: dict[str, Value] = {}  # by the product that they are added to
        self.added: dict[str, str] = {}  # sums that are their product already

    def add_input(self, info: onnx.ValueInfoProto, given: Any) -> None:
        """Make a placeholder, its shape from the file or from what was given."""
        kind = info.type.tensor_type
        if kind.elem_type not in _TYPES:
            name = onnx.TensorProto.DataType.Name(kind.elem_type)
            raise ModelError(f"{self.path}: input '{info.name}' is {name}; give a float32 file")
        own = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim][1:]
        named = [_dim(dim) for dim in kind.shape.dim]
        place, wanted = len(self.shapes), None
        if isinstance(given, Mapping):
            wanted = given.get(info.name)
        elif given is not None and place < len(given):
            wanted = given[place]
        if wanted is not None:
            fits = len(wanted) == len(own) and all(
                a in (None, b) for a, b in zip(own, wanted, strict=True)
            )
            if not kind.shape.dim:
                own = list(wanted)
            elif not fits:
                raise ModelError(
                    f"{self.path}: input '{info.name}' takes {_told(own)} and not {_told(wanted)}"
                )
            own = list(wanted)
        if not kind.HasField("shape") or any(not size or size < 1 for size in own):
            raise ModelError(
                f"{self.path}: input '{info.name}' [{', '.join(named)}] leaves sizes open: "
                f"{_told(own)}; give input_shapes={{'{info.name}': (...)}}, without the batch"
            )
        shape = tuple(int(size or 0) for size in own)
        if math.prod(shape) > LARGEST:
            raise ModelError(f"{self.path}: input '{info.name}' is {_told(shape)}, too large")
        self.shapes.append(shape)
        self.values[info.name] = self.builder.input(info.name, shape, _TYPES[kind.elem_type])

    def walk(self, graph: onnx.GraphProto) -> None:
        """Read a graph's nodes in their order; what cannot be read is noted."""
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT16:
                raise ModelError(f"{self.path}: '{tensor.name}' is float16; give a float32 file")
            array = array_of(tensor)
            if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
                raise ModelError(f"{self.path}: '{tensor.name}' holds values that are not numbers "
                                 "(NaN); train the network again")  # fmt: skip
            self.values[tensor.name] = Value(tensor.name, array)
        self._find_biases(graph)
        for proto in graph.node:
            if proto.output:
                self._node(proto)

    def _node(self, proto: onnx.NodeProto) -> None:
        kind = kind_of(proto)
        constant = kind not in UNFOLDED and self._all_constant(proto)
        if kind in _TAILS and not constant:
            self.tails.append(f"{kind} '{_name(proto)}'")
            self._left_out(proto)
            return
        if kind not in READERS and kind not in _FOLDED and not constant:
            self._fault(proto, kind, "no reader")
            return
        if any(name in self.unread for name in proto.input):
            self._left_out(proto)
            return
        missing = [name for name in proto.input if name and name not in self.values]
        if missing:
            raise ModelError(f"{self.path}: {kind} '{_name(proto)}' reads '{missing[0]}', which "
                             "nothing gives; the file is damaged")  # fmt: skip
        inputs = [self.values[name] if name else None for name in proto.input]
        call = Call(proto, inputs, self.opset, self.biases.get(proto.output[0]), self.read)
        try:
            results = self._results(call, constant=constant)
        except CannotReadError as error:
            self._fault(proto, kind, str(error))
            return
        except ModelError:
            raise
        except Exception as error:  # torch refuses sizes or types in many ways
            self._fault(proto, kind, one_line(error))
            return
        for name, value in zip(proto.output, results, strict=False):
            if name and value is not None:
                self.values[name] = value

    def _left_out(self, proto: onnx.NodeProto) -> None:
        """Pass over a node that reads what is not there, and note what else it reads."""
        self.unread.update(proto.output)
        for name in proto.input:
            value = self.values.get(name)
            if value is not None and value.array is None:
                self.frontier[name] = value

    def _results(self, call: Call, *, constant: bool) -> Sequence[Value]:
        proto, kind = call.proto, call.kind
        if kind == "If":
            return self._branch(call)
        if proto.output[0] in self.added:
            return [self.values[self.added[proto.output[0]]]]
        if kind in ("Shape", "Size") and call.x.array is None:
            return [size_of(call)]
        if constant:
            return self.folding.results(call)
        if kind not in READERS:
            raise CannotReadError("inputs that are computed")
        made = READERS[kind](self.builder, call)
        return [made] if isinstance(made, Value) else made

    def _find_biases(self, graph: onnx.GraphProto) -> None:
        """Note where a product with a matrix of the file is read by the sum with its bias alone."""
        read = self.read
        products = {
            proto.output[0]: self.values[proto.input[1]].sizes
            for proto in graph.node
            if proto.op_type == "MatMul"
            and proto.input[1] in self.values
            and self.values[proto.input[1]].array is not None
        }
        for proto in graph.node:
            if proto.op_type != "Add":
                continue
            for product, other in (proto.input, reversed(proto.input)):
                bias, shape = self.values.get(other), products.get(product, ())
                if read[product] == 1 and bias is not None and bias.array is not None:
                    if len(shape) != 2 or bias.sizes != shape[1:]:
                        continue
                    self.biases[product], self.added[proto.output[0]] = bias, product

    def _branch(self, call: Call) -> Sequence[Value]:
        chosen = bool(call.x.constant("a condition").reshape(()))
        branch = call.attribute("then_branch" if chosen else "else_branch")
        self.walk(branch)
        lost = [one.name for one in branch.output if one.name in self.unread]
        if lost:
            self.unread.update(call.proto.output)
            return []
        return [self.values[one.name] for one in branch.output]

    def _all_constant(self, proto: onnx.NodeProto) -> bool:
        given = [self.values.get(name) for name in proto.input if name]
        return all(value is not None and value.array is not None for value in given)

    def _fault(self, proto: onnx.NodeProto, kind: str, why: str) -> None:
        self.faults.append(f"{kind} '{_name(proto)}' ({why})")
        self.unread.update(proto.output)

    def finish(self) -> ImportedNetwork:
        """The graph as a module, or all that could not be read."""
        if self.faults:
            count = len(self.faults)
            told = "; ".join(self.faults[:20]) + (f"; and {count - 20} more" if count > 20 else "")
            raise ModelError(f"{self.path}: cannot read {count} operators: {told}")
        names, notes = self._outputs()
        listed = [name for name in names if self.values[name].parts is not None]
        if listed:
            raise ModelError(f"{self.path}: output '{listed[0]}' is a sequence of tensors; export "
                             "the network with its tensors as outputs")  # fmt: skip
        nodes = [self.builder.node_of(self.values[name]) for name in names]
        self.builder.graph.output(
            nodes[0] if len(nodes) == 1 else dict(zip(names, nodes, strict=True))
        )
        module = fx.GraphModule(self.builder.root, self.builder.graph, "ImportedNetwork")
        module.graph.eliminate_dead_code()
        module.recompile()
        module.delete_all_unused_submodules()
        if notes:
            module.meta[NOTES] = notes
        inputs = tuple(info.name for info in self.real_inputs)
        return ImportedNetwork(module.eval(), inputs, tuple(self.shapes), names, self.opset)

    def _outputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the outputs, and notes; what an end that is left out reads stands for it."""
        wanted = tuple(info.name for info in self.model.graph.output)
        gone = [name for name in wanted if name in self.unread]
        lost = [name for name in wanted if name not in self.values and name not in self.unread]
        if lost:
            raise ModelError(f"{self.path}: nothing gives output '{lost[0]}'; the file is damaged")
        if not gone:
            return wanted, ()
        names = tuple(dict.fromkeys([*(n for n in wanted if n not in gone), *self.frontier]))
        if not names:
            raise ModelError(f"{self.path}: nothing stands before {', '.join(self.tails)}")
        told = ", ".join(f"'{name}'" for name in names)
        return names, (
            f"left out, with all that follows: {', '.join(self.tails)}, which picks results by "
            f"their values; the network gives {told}, on which it is to run after the network",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch logs of sizes that it refuses, with tracebacks; they are noted as faults."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are no initializers, which older files list too."""
    known = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in known]


def _batch(path: Path, inputs: Sequence[onnx.ValueInfoProto]) -> int:
    """How many images the file fixes; 1 where it leaves that open."""
    found = 1
    for info in inputs:
        dims = info.type.tensor_type.shape.dim
        if not info.type.HasField("tensor_type"):
            raise ModelError(f"{path}: input '{info.name}' is no tensor")
        if dims and dims[0].HasField("dim_value"):
            found = max(found, dims[0].dim_value)
    names = {info.type.tensor_type.shape.dim[0].dim_param for info in inputs
             if info.type.tensor_type.shape.dim} - {""}  # fmt: skip
    known = inputs[0].type.tensor_type.shape.dim[:1]
    for info in inputs:
        dims = info.type.tensor_type.shape.dim
        what = f"{path}: input '{info.name}' [{', '.join(map(_dim, dims))}]"
        if not dims and info.type.tensor_type.HasField("shape"):
            raise ModelError(f"{what} is one number for all images; make it a constant before the "
                             "export")  # fmt: skip
        fixed = {dim.dim_value for dim in (*known, *dims[:1]) if dim.dim_value > 0}
        if len(fixed) > 1 or any(dim.dim_param in names for dim in dims[1:]):
            raise ModelError(f"{what} does not have the images of a batch in its first dimension, "
                             "as all inputs must; export it again so")  # fmt: skip
    if found > 1024:
        raise ModelError(f"{path}: fixes {found} images; export it for one")
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value or dim.dim_param or "?")


def _name(proto: onnx.NodeProto) -> str:
    return proto.name or (proto.output[0] if proto.output else "")


def _told(sizes: Sequence[Any]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)
