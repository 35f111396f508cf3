"""One node of a graph, computed by ONNX Runtime itself."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnxruntime
from onnx import TensorProto, helper

from bitladder.errors import TargetError
from bitladder.targets.integer.node import Array, Given, Node

_IR_VERSION = 10
_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml")
_FATAL_ONLY = 4


class RuntimeNode:
    """A session of one node, by the kernel that the whole graph runs.

    Constants stay constants, since kernels prepare them. Nothing is optimised again, and one
    thread computes.

    Args:
        node: the operation, of any domain that the runtime has.
        types: of its inputs, by name, as ``TensorProto.DataType``.
        tensors: the graph's constants by name.
        opset: version of ONNX's own operators.

    Attributes:
        types: of its outputs.

    Raises:
        TargetError: the runtime does not take the node by itself.
    """

    def __init__(
        self,
        node: Node,
        types: Mapping[str, int],
        tensors: Mapping[str, onnx.TensorProto],
        opset: int,
    ) -> None:
        names = list(dict.fromkeys(name for name in node.inputs if name))
        self._given = {name: node.inputs.index(name) for name in names if name not in tensors}
        outputs = [name for name in node.outputs if name]
        graph = helper.make_graph(
            [node.proto],
            "node",
            [
                helper.make_tensor_value_info(name, types[name], _shape(node.fixed[place]))
                for name, place in self._given.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [tensors[name] for name in names if name in tensors],
        )
        imports = [helper.make_opsetid("", opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in _DOMAINS]
        model = helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises its own, of no common type
            raise node.refuse(f": {' '.join(str(error).split())}") from None
        self.types = [_type(node, output.type) for output in self._session.get_outputs()]
        self._places = [place for place, name in enumerate(node.outputs) if name]
        self._count = len(node.outputs)

    def __call__(self, node: Node, given: Given) -> tuple[Array | None, ...]:
        """The node's outputs, None for one that it leaves out."""
        feeds = {name: given[place] for name, place in self._given.items()}
        try:
            made = self._session.run(None, feeds)
        except Exception as error:
            raise TargetError(f"ONNX Runtime: {' '.join(str(error).split())}") from None
        results: list[Array | None] = [None] * self._count
        for place, value in zip(self._places, made, strict=True):
            results[place] = value
        return tuple(results)


def _shape(fixed: Array | None) -> tuple[int, ...] | None:
    """Of what follows from constants alone: without it some nodes are refused."""
    return None if fixed is None else fixed.shape


def _type(node: Node, name: str) -> int:
    """``tensor(float)`` as ONNX numbers it."""
    kind = name.removeprefix("tensor(").removesuffix(")").upper()
    try:
        return int(TensorProto.DataType.Value(kind))
    except ValueError:
        raise node.refuse(f", which makes {name}") from None
