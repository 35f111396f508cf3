"""Open an ONNX file that nobody vouches for: every tensor is there, and as large as it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import onnx
from onnx import external_data_helper, inliner

from bitladder.errors import ModelError
from bitladder.outside import check_file

LARGEST = 2**30
"""Most values that one tensor of a network may have."""
_LARGEST_FILE = 2**31
_MOST_NODES = 2**17
_ITEM_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32,
              13: 64, 16: 16}  # fmt: skip
# Where a type's values stand if they are not raw bytes.
_FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data",
           13: "uint64_data"}  # fmt: skip
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger",
              "MatMulInteger", "QLinear", "QGemm", "QAttention", "DynamicQuantize")  # fmt: skip


def read(path: Path) -> onnx.ModelProto:
    """Read a float ONNX file with its external data, its functions put in place of their calls.

    Raises:
        ModelError: the file is not there, is not ONNX, is cut off, lacks data, has no outputs, or
            is quantized already.
    """
    try:
        if path.is_file() and path.stat().st_size >= _LARGEST_FILE:
            raise ModelError(f"{path}: is larger than the 2 GiB that an ONNX file can have; export "
                             "it with external data")  # fmt: skip
        check_file(path, refusal=ModelError)
        model = onnx.load_model(str(path), load_external_data=False)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: cannot read: {error.strerror or error}") from None
    except Exception as error:  # protobuf raises types of its own
        raise ModelError(f"{path}: is not an ONNX file, or is cut off: {_line(error)}") from None
    graph = model.graph
    if not model.opset_import or not (graph.node or graph.initializer):
        raise ModelError(f"{path}: is not an ONNX file, or is empty: it holds no network")
    if not graph.output:
        raise ModelError(f"{path}: the graph has no outputs; export it again with its outputs")
    if model.functions:
        _check_functions(path, model)
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:
            raise ModelError(f"{path}: its functions cannot be read: {_line(error)}") from None
    for tensor in tensors(model.graph):
        _check_tensor(path, tensor)
    _refuse_quantized(path, model)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(f"{path}: external data cannot be read: {_line(error)}") from None
    return model


def _check_functions(path: Path, model: onnx.ModelProto) -> None:
    """Refuse functions that call one another, or so often that the nodes would have no end."""
    own = {(f.domain, f.name): list(_nodes(f.node)) for f in model.functions}
    calls = {name: [(n.domain, n.op_type) for n in nodes] for name, nodes in own.items()}
    counts: dict[tuple[str, str], int] = {}
    try:
        for name in TopologicalSorter(calls).static_order():
            counts[name] = sum(counts[one] for one in calls[name]) if name in calls else 1
    except CycleError:
        raise ModelError(f"{path}: has functions that call themselves; export it again") from None
    count = sum(counts.get((n.domain, n.op_type), 1) for n in all_nodes(model.graph))
    if count > _MOST_NODES:
        raise ModelError(f"{path}: has {count} nodes; networks of {_MOST_NODES} are read")


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph and of the graphs in its nodes."""
    yield from _nodes(graph.node)


def names_read(graph: onnx.GraphProto) -> Iterator[str]:
    """What nodes and outputs of a graph read, and of those in its nodes, as often as they do."""
    yield from (name for node in graph.node for name in node.input)
    yield from (one.name for one in graph.output)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from names_read(attribute.g)


def _nodes(given: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in given:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def _refuse_quantized(path: Path, model: onnx.ModelProto) -> None:
    found = sorted({n.op_type for n in all_nodes(model.graph) if n.op_type.startswith(_QUANTIZED)})
    if found:
        raise ModelError(
            f"{path}: is quantized already ({', '.join(found)}); give the float file it was made "
            "from"
        )


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a graph holds, those in its nodes and their graphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)
            yield from attribute.tensors


def _check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    """Refuse a tensor whose data are not as many as its sizes say, before memory is taken."""
    name = f"{path}: tensor '{tensor.name}'"
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"{name} has a negative size {list(tensor.dims)}; export the file again")
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    if tensor.data_type not in _ITEM_BITS:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise ModelError(f"{name} is of type {kind}; give a float32 file")
    count = math.prod(tensor.dims)
    if count > LARGEST:
        raise ModelError(f"{name} claims {count} values, more than the {LARGEST} that are read")
    wanted = count * _ITEM_BITS[tensor.data_type] // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(path, tensor, wanted)
        return
    if tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
    else:
        values = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
        found = values * _ITEM_BITS[tensor.data_type] // 8
    if found != wanted:
        raise ModelError(
            f"{name} {list(tensor.dims)} needs {wanted} bytes and the file holds {found}; it is "
            "cut off or damaged"
        )


def _check_external(path: Path, tensor: onnx.TensorProto, wanted: int) -> None:
    given = {entry.key: entry.value for entry in tensor.external_data}
    name = f"{path}: tensor '{tensor.name}'"
    place = Path(given.get("location", ""))
    if not place.name or place.is_absolute() or ".." in place.parts:
        raise ModelError(f"{name} has its data at '{place}', not in a file beside the model")
    file = path.parent / place
    if not file.is_file():
        raise ModelError(f"{name} has its data in {file}, which is not there; put it beside")
    try:
        offset = int(given.get("offset", 0))
        length = int(given.get("length", file.stat().st_size - offset))
    except ValueError:
        raise ModelError(f"{name}: offset or length of its data is no number") from None
    if offset < 0 or length != wanted or offset + length > file.stat().st_size:
        raise ModelError(
            f"{name} needs {wanted} bytes from {offset} of {file}, which is shorter; it is "
            "cut off or of another model"
        )


def _line(error: Exception) -> str:
    text: Any = str(error).strip().splitlines()
    return str(text[0]) if text else type(error).__name__
