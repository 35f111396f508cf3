"""A QDQ file in the form that OpenVINO computes exactly: its own FakeQuantize in place of pairs.

OpenVINO 2026.4 crashes in places on two pairs of QuantizeLinear and DequantizeLinear in a row, with
which narrow activations are written. Grids of more than 256 levels it strips from the graph, and
with them the ReLU that is their end; those are written as plain arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bitladder.deploy.onnx_graph import initializers
from bitladder.targets.openvino_integers import IntegerLayers

_DOMAIN = "org.openvinotoolkit"
_LEVELS = 256  # of the largest FakeQuantize that stays in the graph


@dataclass(frozen=True)
class _Grid:
    """A grid of activations: integers from ``low`` to ``high``, zero being the real zero."""

    source: str
    scale: float
    low: int
    high: int


def openvino_form(model: onnx.ModelProto, *, clipped: bool) -> onnx.ModelProto:
    """The model with every pair on activations as one FakeQuantize of OpenVINO.

    Args:
        model: a QDQ file; what is no pair of one scale stays as it is. It is not changed.
        clipped: a narrow grid is a Clip and the 8-bit grid of its first pair, which OpenVINO's
            integer layers take; otherwise one FakeQuantize with as many levels as it has.
    """
    made = onnx.shape_inference.infer_shapes(model)
    graph = made.graph
    constants = initializers(graph)
    quantizers = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    grids: dict[str, tuple[_Grid, _Grid]] = {}  # what is read, and its first pair's
    layers, steps = IntegerLayers(graph, constants), dict[str, float]()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        pair = _pair(node, quantizers, constants)
        if pair is None:
            nodes.append(node)
            continue
        whole, container = pair, pair
        before = grids.get(pair.source)
        if before is not None and before[0].scale == pair.scale:
            first, container = before
            low, high = max(first.low, pair.low), min(first.high, pair.high)
            whole = _Grid(first.source, pair.scale, low, high)
        name = node.output[0]
        grids[name] = whole, container
        exact = not clipped and whole.high - whole.low < _LEVELS
        integers = layers.rounded(whole.source, whole.scale, steps) if exact else None
        steps[name] = whole.scale
        if integers is not None:
            nodes += [*integers[1], *_saturated(graph, name, integers[0], whole)]
        else:
            nodes += _written(graph, name, whole, container if clipped else whole)
    del graph.node[:]
    graph.node.extend(_read(nodes, graph))
    made.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return made


def _pair(
    node: onnx.NodeProto,
    quantizers: dict[str, onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
) -> _Grid | None:
    """The grid that a pair puts a tensor on, or None where the node ends no pair of one scale."""
    quantize = quantizers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if quantize is None or list(quantize.input[1:]) != list(node.input[1:]):
        return None
    held = [constants.get(name) for name in node.input[1:]]
    if len(held) != 2 or any(one is None for one in held):
        return None
    scale, zero = (numpy_helper.to_array(one) for one in held if one is not None)
    if scale.size != 1 or zero.dtype.kind not in "iu":
        return None
    limits = np.iinfo(zero.dtype)
    offset = int(zero.reshape(-1)[0])
    return _Grid(
        quantize.input[0], float(scale.reshape(-1)[0]), limits.min - offset, limits.max - offset
    )


def _written(graph: onnx.GraphProto, name: str, whole: _Grid, grid: _Grid) -> list[onnx.NodeProto]:
    """The nodes that put a tensor on a grid: a FakeQuantize, behind a Clip if it is wider."""
    levels = grid.high - grid.low + 1
    if levels > _LEVELS:
        return _rounded(graph, name, whole)
    found, source = [], whole.source
    if (grid.low, grid.high) != (whole.low, whole.high):
        bounds = [_number(graph, name, kind, whole) for kind in ("low", "high")]
        found.append(helper.make_node("Clip", [source, *bounds], [source := f"{name}_clipped"]))
    ends = [_number(graph, f"{name}_grid", kind, grid) for kind in ("low", "high")]
    found.append(
        helper.make_node(
            "FakeQuantize", [source, *ends, *ends], [name], domain=_DOMAIN, levels=levels
        )
    )
    return found


def _rounded(graph: onnx.GraphProto, name: str, grid: _Grid) -> list[onnx.NodeProto]:
    """A grid in plain arithmetic, which nothing strips."""
    bounds = [_number(graph, name, kind, grid) for kind in ("low", "high")]
    graph.initializer.append(numpy_helper.from_array(np.float32(grid.scale), f"{name}_step"))
    clipped, divided, integers = f"{name}_clipped", f"{name}_divided", f"{name}_rounded"
    return [
        helper.make_node("Clip", [grid.source, *bounds], [clipped]),
        helper.make_node("Div", [clipped, f"{name}_step"], [divided]),
        helper.make_node("Round", [divided], [integers]),
        helper.make_node("Mul", [integers, f"{name}_step"], [name]),
    ]


def _saturated(
    graph: onnx.GraphProto, name: str, integers: str, grid: _Grid
) -> list[onnx.NodeProto]:
    """Integers in float32 as the values of a grid, saturated."""
    for kind, value in (("least", grid.low), ("most", grid.high), ("step", grid.scale)):
        graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{name}_{kind}"))
    kept = f"{name}_saturated"
    return [
        helper.make_node("Clip", [integers, f"{name}_least", f"{name}_most"], [kept]),
        helper.make_node("Mul", [kept, f"{name}_step"], [name]),
    ]


def _number(graph: onnx.GraphProto, name: str, kind: str, grid: _Grid) -> str:
    value = np.float32(grid.scale) * np.float32(grid.low if kind == "low" else grid.high)
    graph.initializer.append(numpy_helper.from_array(value, f"{name}_{kind}"))
    return f"{name}_{kind}"


def _read(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes without those that nobody reads any more."""
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
