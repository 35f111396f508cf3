"""Files whose images are bytes: a graph of floats in 0 to 1 turned into one of uint8.

A byte is the integer of its pixel: scale 1/255, zero point 0. Where the graph rounds its input to
that very grid, the bytes are the integers that its first layer reads, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.onnx_graph import initializers
from bitladder.simulation import LEVELS

_STEP = np.float32(1) / np.float32(LEVELS)


def take_bytes(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Have inputs of a QDQ graph be uint8.

    Args:
        model: it is changed.
        names: of the inputs, float pixels in 0 to 1.
    """
    graph = model.graph
    constants = initializers(graph)
    for given in graph.input:
        if given.name not in names:
            continue
        given.type.tensor_type.elem_type = TensorProto.UINT8
        for node in list(graph.node):
            if _rounds_to_bytes(node, given.name, constants):
                _read_in_place(graph, node.output[0], given.name)
                graph.node.remove(node)
        readers = [node for node in graph.node if given.name in node.input]
        floats = [node for node in readers if node.op_type not in ("DequantizeLinear", "Shape")]
        if floats:
            _dequantize(graph, given.name, floats)


def as_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels in 0 to 1 as their bytes."""
    made: NDArray[np.uint8] = np.rint(np.clip(pixels, 0, 1) * LEVELS).astype(np.uint8)
    return made


def _rounds_to_bytes(
    node: onnx.NodeProto, name: str, constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether a node rounds a float input to the grid of bytes."""
    if node.op_type != "QuantizeLinear" or node.input[0] != name or len(node.input) < 3:
        return False
    scale, zero = (numpy_helper.to_array(constants[one]) for one in node.input[1:])
    return bool(scale.size == 1 and scale == _STEP and zero.dtype == np.uint8 and not zero.any())


def _read_in_place(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _dequantize(graph: onnx.GraphProto, name: str, readers: list[onnx.NodeProto]) -> None:
    """Give readers of floats what the bytes stand for."""
    taken = {one for node in graph.node for one in (*node.input, *node.output)}
    made = f"{name}_pixels"
    while made in taken:
        made += "_"
    for node in readers:
        for place, one in enumerate(node.input):
            if one == name:
                node.input[place] = made
    grid = [(f"{made}_scale", _STEP), (f"{made}_zero_point", np.uint8(0))]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), key) for key, v in grid)
    inputs = [name, *(key for key, _ in grid)]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [made]))
