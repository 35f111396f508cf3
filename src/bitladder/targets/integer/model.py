"""An optimised graph, computed node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bitladder.errors import TargetError
from bitladder.targets.integer.elementwise import ELEMENTWISE, QUANTIZERS
from bitladder.targets.integer.layers import LAYERS, multiply_dynamic
from bitladder.targets.integer.movement import MOVEMENT
from bitladder.targets.integer.node import INTEGERS, Array, Given, Kernel, Node
from bitladder.targets.integer.pooling import POOLING
from bitladder.targets.integer.runtime import RuntimeNode

_KERNELS = LAYERS | ELEMENTWISE | POOLING
_FLOAT, _INT64, _UINT8 = map(int, (TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8))
_FIXED = {-1: _FLOAT, -2: _INT64}
_PACKED = {"MatMulNBits"}  # float layers whose weights alone are integers
# Movement whose settings were attributes before this opset, and are inputs since.
_INPUTS_SINCE, _REDEFINED = 13, {"Pad", "Slice", "Split"}


class IntegerModel:
    """An optimised QDQ graph, computed as its kernels do.

    Args:
        graph: as ONNX Runtime writes it with ``optimized_model_filepath``.
        opset: version of ONNX's own operators in it.

    Raises:
        TargetError: an operation on integers is none whose arithmetic is known.
    """

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.constants: dict[str, Array] = {
            name: np.array(numpy_helper.to_array(tensor)) for name, tensor in tensors.items()
        }
        given = [value for value in graph.input if value.name not in tensors]
        types = {value.name: value.type.tensor_type.elem_type for value in given}
        types |= {name: tensor.data_type for name, tensor in tensors.items()}
        self.steps: list[tuple[Node, Kernel]] = []
        for proto in graph.node:
            node = Node(proto, self.constants)
            kernel = _kernel(node, types, tensors, opset)
            if node.inputs and all(fixed is not None for fixed in node.fixed):
                self.constants.update(_run(node, kernel, node.fixed))
            else:
                self.steps.append((node, kernel))
        self.inputs = [value.name for value in given]
        self.outputs = [value.name for value in graph.output]
        self.last_use = {name: node for node, _ in self.steps for name in node.inputs}

    @torch.no_grad()
    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name.

        Raises:
            TargetError: there are more or fewer arrays than inputs.
        """
        if len(inputs) != len(self.inputs):
            raise TargetError(f"the file takes {len(self.inputs)} inputs, not {len(inputs)}")
        values: dict[str, Any] = dict(
            zip(self.inputs, (np.asarray(one, order="C") for one in inputs), strict=True)
        )
        for node, kernel in self.steps:
            given = [values.get(name, self.constants.get(name)) for name in node.inputs]
            values.update(_run(node, kernel, given))
            for name in node.inputs:
                if self.last_use.get(name) is node and name not in self.outputs:
                    values.pop(name, None)
        everything = {**self.constants, **values}
        return {name: np.asarray(everything[name], order="C") for name in self.outputs}


def _run(node: Node, kernel: Kernel, given: Given) -> dict[str, Any]:
    """A node's results by name."""
    results = kernel(node, given)
    results = results if isinstance(results, tuple) else (np.asarray(results),)
    return dict(zip(node.outputs, results, strict=False))


def _kernel(
    node: Node,
    types: dict[str, int],
    tensors: Mapping[str, onnx.TensorProto],
    opset: int,
) -> Kernel:
    """What computes a node; the types of its outputs are noted."""
    given = [types[name] for name in node.inputs if name]
    whole = any(kind in INTEGERS for kind in given)
    if node.kind in QUANTIZERS:
        _note(node, types, [_made_by_quantizer(node, types)])
        return QUANTIZERS[node.kind]
    if node.kind == "DynamicQuantizeMatMul":
        _note(node, types, [_FLOAT])
        return multiply_dynamic
    if whole and node.kind in _KERNELS:
        kernel, place = _KERNELS[node.kind]
        if len([name for name in node.outputs if name]) > 1:
            raise node.refuse(" with several outputs")
        _note(node, types, [_made_by_kernel(node, types, place)])
        return kernel
    old = opset < _INPUTS_SINCE and node.kind in _REDEFINED
    if node.kind in MOVEMENT and not old:
        _note(node, types, [types[node.inputs[0]]] * len(node.outputs))
        return MOVEMENT[node.kind]
    if whole and not old and not _moves(node) and node.kind not in _PACKED:
        raise node.refuse()
    runtime = RuntimeNode(node, types, tensors, opset)
    _note(node, types, runtime.types, computed=not whole)
    return runtime


def _moves(node: Node) -> bool:
    """Whether an operation that the runtime computes takes its values from integers as they are."""
    nearest = node.kind == "Resize" and bool(node.get("mode", "nearest") == "nearest")
    return nearest or node.kind == "Shape"


def _made_by_quantizer(node: Node, types: Mapping[str, int]) -> int:
    if node.kind == "DequantizeLinear":
        return _FLOAT
    if len(node.inputs) > 2 and node.inputs[2]:
        return types[node.inputs[2]]
    return int(node.get("output_dtype", 0)) or _UINT8


def _made_by_kernel(node: Node, types: Mapping[str, int], place: int) -> int:
    if place in _FIXED:
        return _FIXED[place]
    if place < len(node.inputs) and node.inputs[place]:
        return types[node.inputs[place]]
    return _FLOAT if node.kind == "QGemm" else types[node.inputs[0]]


def _note(node: Node, types: dict[str, int], made: list[int], *, computed: bool = False) -> None:
    if computed and any(kind in INTEGERS for kind in made):
        raise node.refuse()
    types.update(zip([name for name in node.outputs if name], made, strict=False))
