"""An ONNX graph while it is written: nodes in order, constants by name, names that are new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET, _OPSET_INT16 = 20, 21  # the second is the first with 4-bit and 16-bit integers
_WIDE = {TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16, TensorProto.UINT16}
_IR_VERSION = 10
_GRIDS = {"QuantizeLinear", "DequantizeLinear"}
FEW = 2
"""Images or signals for which the sizes of a network's tensors are told."""
BATCH = "batch"
"""What files call the dimension that grows with the number of images or signals."""


class Graph:
    """Nodes and constants of an ONNX model to be.

    Args:
        names: of the inputs and outputs, which nothing else is called.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.names: set[str] = set(names)

    def new_name(self, wanted: str) -> str:
        """The name, or one with a number behind it where it is taken."""
        name, count = wanted, 1
        while name in self.names or name in self.tensors:
            count += 1
            name = f"{wanted}_{count}"
        self.names.add(name)
        return name

    def is_made(self, name: str) -> bool:
        """Whether a tensor of that name is there."""
        return name in self.tensors or any(name in node.output for node in self.nodes)

    def add(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a node."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), **attributes))

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant under a name, which is its own."""
        self.tensors[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def nibbles(self, name: str, values: NDArray[np.int64]) -> str:
        """Add a constant of signed 4-bit integers, two in a byte."""
        packed = values.ravel().astype(np.uint8) & 0xF
        packed = np.append(packed, np.zeros(packed.size % 2, np.uint8))
        content = (packed[::2] | packed[1::2] << 4).tobytes()
        self.tensors[name] = helper.make_tensor(
            name, TensorProto.INT4, values.shape, content, raw=True
        )
        return name

    def rename(self, old: str, new: str, since: int) -> None:
        """Give a tensor another name in all nodes from number ``since`` on."""
        for node in self.nodes[since:]:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new

    def model(
        self, given: Sequence[onnx.ValueInfoProto], made: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The whole model, without nodes that nothing reads."""
        nodes = _needed(self.nodes, {value.name for value in made})
        for node in nodes:  # runtimes tell what they refuse by its name
            if node.op_type not in _GRIDS:
                node.name = node.output[0]
        read = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "bitladder",
            list(given),
            list(made),
            [self.tensors[name] for name in sorted(self.tensors.keys() & read)],
        )
        wide = any(tensor.data_type in _WIDE for tensor in graph.initializer)
        opset = helper.make_opsetid("", _OPSET_INT16 if wide else _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        model.producer_name = "bitladder"
        onnx.checker.check_model(model)
        return model


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def described(
    name: str, sizes: Sequence[int], free: Sequence[bool], kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """An input or output of the graph.

    Args:
        name: its name.
        sizes: its shape for two images.
        free: for each dimension, whether it grows with the batch; one that does so in another way
            than the batch itself has a name of its own.
        kind: type of its numbers, as ``TensorProto.DataType``.
    """
    shape = [
        size if not grows else BATCH if size == FEW else f"{name}_{axis}"
        for axis, (size, grows) in enumerate(zip(sizes, free, strict=True))
    ]
    return helper.make_tensor_value_info(name, kind, shape)


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The graph's constants by name."""
    return {tensor.name: tensor for tensor in graph.initializer}
