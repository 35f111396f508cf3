"""Layers for OpenVINO that add integers, held in float32, as ONNX Runtime's integer kernels do.

A float layer adds products of values on grids, which are rounded; what lies near a half then falls
to either side. Integers are exact in float32 up to 2^24, in any order. So a layer reads integers,
adds integers, and its sum is multiplied once by ``s_x s_w / s_y`` and rounded half to even.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_SUMS = "_sums"  # ends the name of what a layer adds
_WIDEST = np.float32(2**31)  # clips nothing: it keeps a factor from entering the layer's weights
Array = NDArray[Any]
Nodes = list[onnx.NodeProto]


class IntegerLayers:
    """Writes layers between grids as sums of integers.

    Args:
        graph: of a QDQ file; constants are added to it.
        constants: its constants by name.
    """

    def __init__(self, graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]) -> None:
        self._graph, self._constants = graph, constants
        self._makers = {name: node for node in graph.node for name in node.output}
        self._rounded: dict[tuple[str, float], str] = {}
        self._entered: dict[str, str] = {}
        self._shapes = {
            value.name: list(value.type.tensor_type.shape.dim) for value in graph.value_info
        }

    def rounded(
        self, source: str, step: float, steps: Mapping[str, float]
    ) -> tuple[str, Nodes] | None:
        """Integers of a layer's output, not saturated yet, and the new nodes that make them.

        Args:
            source: the layer's output in the file.
            step: of the grid that it is put on.
            steps: of the grids that tensors lie on, by their names.

        Returns:
            None where the tensor comes from no layer that reads and adds integers.
        """
        if (source, step) in self._rounded:
            return self._rounded[source, step], []
        node = self._makers.get(source)
        if node is None or not node.input or node.input[0] not in steps:
            return None
        x_step = np.float32(steps[node.input[0]])
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type in ("Conv", "Gemm"):
            summed = self._layer(node, x_step, settings)
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):
            summed = self._mean(node, x_step, settings)
        else:
            return None
        if summed is None:
            return None
        sums, factor, nodes = summed
        kept, scaled, made = (f"{source}_{kind}" for kind in ("kept", "scaled", "integers"))
        bounds = [
            self._constant(f"{source}_lowest", -_WIDEST),
            self._constant(f"{source}_highest", _WIDEST),
        ]
        nodes += [
            helper.make_node("Clip", [sums, *bounds], [kept]),
            helper.make_node(
                "Mul",
                [kept, self._constant(f"{source}_factor", factor / np.float32(step))],
                [scaled],
            ),
            helper.make_node("Round", [scaled], [made]),
        ]
        self._rounded[source, step] = made
        return made, nodes

    def _layer(
        self, node: onnx.NodeProto, x_step: np.float32, settings: Mapping[str, Any]
    ) -> tuple[str, Array, Nodes] | None:
        """Sums of a layer, what they stand for in units of its output, and the nodes."""
        plain = all(settings.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
        held = [self._held(name) for name in node.input[1:] if name]
        if not plain or settings.get("transA") or any(one is None for one in held):
            return None
        (weight, scale), *bias = [one for one in held if one is not None]
        channels = [1, -1, *[1] * (weight.ndim - 2)]
        name, (x, nodes) = node.output[0], self._centred(node.input[0], x_step)
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        del layer.input[:], layer.output[:]
        layer.input.extend([x, self._constant(f"{name}_weight", weight)])
        layer.output.append(sums := f"{name}{_SUMS}")
        nodes.append(layer)
        for integers, _ in bias:
            added = self._constant(f"{name}_bias", integers.reshape(channels))
            nodes.append(helper.make_node("Add", [sums, added], [f"{name}_biased"]))
            sums = f"{name}_biased"
        factor = x_step * scale.reshape(-1)
        return sums, factor.reshape(channels if factor.size > 1 else ()), nodes

    def _mean(
        self, node: onnx.NodeProto, x_step: np.float32, settings: Mapping[str, Any]
    ) -> tuple[str, Array, Nodes] | None:
        """Likewise of a mean over height and width."""
        sizes = self._sizes(node.input[0])
        axes = np.arange(2, len(sizes))
        if node.op_type == "ReduceMean":
            given = self._constants.get(node.input[1]) if len(node.input) > 1 else None
            axes = np.asarray([]) if given is None else numpy_helper.to_array(given)
        over = [sizes[axis] for axis in axes] if sizes else []
        if not over or not all(over):
            return None
        name, (x, nodes) = node.output[0], self._centred(node.input[0], x_step)
        held = self._constant(f"{name}_axes", axes.astype(np.int64))
        keep = settings.get("keepdims", 1)
        nodes.append(helper.make_node("ReduceSum", [x, held], [f"{name}{_SUMS}"], keepdims=keep))
        return f"{name}{_SUMS}", np.asarray(x_step / np.float32(np.prod(over))), nodes

    def _centred(self, name: str, step: np.float32) -> tuple[str, Nodes]:
        """A tensor on a grid as its integers around zero."""
        if name in self._entered:
            return self._entered[name], []
        divided, made = f"{name}_divided_in", f"{name}_integers_in"
        self._entered[name] = made
        by = self._constant(f"{name}_step_in", step)
        return made, [
            helper.make_node("Div", [name, by], [divided]),
            helper.make_node("Round", [divided], [made]),
        ]

    def _held(self, name: str) -> tuple[Array, Array] | None:
        """Integers of a dequantized constant around zero, with their scale."""
        node = self._makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        found = [self._constants.get(one) for one in node.input]
        if any(one is None for one in found):
            return None
        integers, scale, *zero = [numpy_helper.to_array(one) for one in found if one is not None]
        values = integers.astype(np.float32)
        if zero and zero[0].any():
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [1] * values.ndim
            if zero[0].size > 1:
                shape[axis] = -1
            values = values - zero[0].astype(np.float32).reshape(shape)
        return values, scale

    def _sizes(self, name: str) -> list[int]:
        return [d.dim_value for d in self._shapes[name]] if name in self._shapes else []

    def _constant(self, name: str, values: Any) -> str:
        held = np.asarray(values)
        kind = held if held.dtype == np.int64 else held.astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(kind), name))
        return name


def integer_layers(model: onnx.ModelProto) -> Counter[str]:
    """How many layers of a model, by their type, were written as sums of integers."""
    found = (node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
    return Counter(node.op_type for node in found if node.output[0].endswith(_SUMS))
