"""The facts of a .dlc file that its users ask for: layers, parameters, multiply-adds, memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bitladder.dlc.model import Attribute, Dlc, DlcGraph, DlcNode, DlcTensor

_MULTIPLYING = {"Conv2d", "DepthWiseConv2d", "FullyConnected", "MatMul", "TransposeConv2d"}
_PACKAGE = "packageName"  # which every layer has: the vendor's operators


@dataclass(frozen=True)
class DlcLayer:
    """One operation.

    Attributes:
        id: its place in the order of execution.
        name: its name.
        type: its type.
        inputs: names of what it reads.
        outputs: names of what it writes.
        attributes: its settings, such as ``stride``.
        parameters: values of the static tensors it reads.
        macs: multiply-adds for the input that the file is for.
    """

    id: int
    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """One graph of a file.

    Attributes:
        graph: its name.
        layers: its operations.
        tensors: a row a tensor, by its name: kind, dims, data type and encoding.
        types: how many there are of each type.
        parameters: values of all static tensors that operations read.
        macs: multiply-adds of all operations.
        static_bytes: bytes of the static tensors.
        memory_bytes: static bytes and, at the worst moment, those of the activations that are
            still to be read.
        file_bytes: the file's size.
        converter: by keyword, what the file says of how it was made.
    """

    graph: str
    layers: tuple[DlcLayer, ...]
    tensors: dict[str, dict[str, Any]]
    types: dict[str, int]
    parameters: int
    macs: int
    static_bytes: int
    memory_bytes: int
    file_bytes: int
    converter: dict[str, str]


def describe(dlc: Dlc) -> tuple[Summary, ...]:
    """Summarize every graph of a file."""
    return tuple(_summary(dlc, graph) for graph in dlc.graphs)


def _summary(dlc: Dlc, graph: DlcGraph) -> Summary:
    layers = tuple(_layer(graph, index, node) for index, node in enumerate(graph.nodes))
    read = {name for node in graph.nodes for name in node.inputs}
    static = [t for t in graph.tensors.values() if t.kind == "static" and t.name in read]
    size = sum(tensor.bytes for tensor in static)
    return Summary(
        graph=graph.name,
        layers=layers,
        tensors={name: _row(tensor) for name, tensor in graph.tensors.items()},
        types=dict(Counter(node.type for node in graph.nodes)),
        parameters=sum(tensor.elements for tensor in static),
        macs=sum(layer.macs for layer in layers),
        static_bytes=size,
        memory_bytes=size + _live_bytes(graph),
        file_bytes=dlc.size,
        converter=dict(dlc.metadata),
    )


def _layer(graph: DlcGraph, index: int, node: DlcNode) -> DlcLayer:
    tensors = [graph.tensors[name] for name in node.inputs if name in graph.tensors]
    static = [tensor for tensor in tensors if tensor.kind == "static"]
    outputs = [graph.tensors[name] for name in node.outputs if name in graph.tensors]
    return DlcLayer(
        id=index,
        name=node.name,
        type=node.type,
        inputs=node.inputs,
        outputs=node.outputs,
        attributes={key: value for key, value in node.attributes.items() if key != _PACKAGE},
        parameters=sum(tensor.elements for tensor in static),
        macs=_macs(node, tensors, outputs),
    )


def _macs(node: DlcNode, inputs: list[DlcTensor], outputs: list[DlcTensor]) -> int:
    """Each weight multiplies once a position: of the output, or of the input it is spread from."""
    if node.type not in _MULTIPLYING or len(inputs) < 2 or not outputs:
        return 0
    weight = inputs[1]
    place = inputs[0] if node.type == "TransposeConv2d" else outputs[0]
    if len(place.shape) != 4:
        return weight.elements
    return weight.elements * place.shape[1] * place.shape[2]


def _row(tensor: DlcTensor) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": tensor.kind,
        "dims": list(tensor.shape),
        "data_type": tensor.data_type,
    }
    if tensor.encoding is not None:
        row["bits"] = tensor.encoding.bits
        row["scale"] = list(tensor.encoding.scale)
        row["offset"] = list(tensor.encoding.offset)
    return row


def _live_bytes(graph: DlcGraph) -> int:
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    live: dict[str, int] = {}
    worst = 0
    for index, node in enumerate(graph.nodes):
        for name in (*node.inputs, *node.outputs):
            tensor = graph.tensors.get(name)
            if tensor is not None and tensor.kind != "static":
                live[name] = tensor.bytes
        worst = max(worst, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    return worst
