"""Compare the static tensors and encodings of a .dlc file with the QDQ ONNX it was made from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitladder.dlc.model import Dlc, DlcTensor
from bitladder.errors import DlcError
from bitladder.outside import read_onnx

_OF_LENGTHS = 3  # axes of the weight of a convolution over signals
_RELATIVE = 1e-6  # scales are float32 in both


def differences(dlc: Dlc, artifact: Path) -> list[str]:
    """Every integer tensor and encoding that the two files hold differently, a line each.

    The converter renames most activations, so the grid of one without its name in the ONNX file
    has to be one of that file's, and every grid of that file has to be in the DLC.

    Args:
        dlc: the file's content.
        artifact: a QDQ ONNX file.

    Raises:
        DlcError: the ONNX file cannot be read, or holds no quantized constants.
    """
    graph = read_onnx(artifact, refusal=DlcError).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    static = [t for g in dlc.graphs for t in g.tensors.values() if t.kind == "static"]
    by_name = {tensor.name: tensor for tensor in static}
    norms = {
        name: f"; the converter computes it anew for the batch norm '{node.output[0]}', from its "
        "scale, bias, mean and variance: fold the batch norm before you export"
        for node in graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[1:]
    }
    found, compared = [], 0
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        compared += 1
        name = node.input[0]
        tensor = by_name.get(name) or _copy(name, by_name)
        line = (
            "not in the DLC"
            if tensor is None
            else _compare(tensor, constants[name], constants[node.input[1]])
        )
        if line:
            found.append(f"{name}: {line}{norms.get(node.output[0], '')}")
    if not compared:
        raise DlcError(f"{artifact}: holds no quantized constants to compare")
    return [*found, *_activations(dlc, graph, constants)]


def _activations(
    dlc: Dlc, graph: onnx.GraphProto, constants: Mapping[str, NDArray[np.generic]]
) -> Iterator[str]:
    folded = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    grids = {
        node.output[0]: (constants[node.input[1]].item(), constants[node.input[2]].item())
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        and node.input[0] not in folded | constants.keys()
        and len(node.input) == 3
        and all(name in constants and constants[name].size == 1 for name in node.input[1:])
    }
    own = {
        tensor.name: (tensor.encoding.scale[0], -tensor.encoding.offset[0])
        for part in dlc.graphs
        for tensor in part.tensors.values()
        if tensor.kind != "static" and tensor.encoding is not None
    }
    makers = {name: node for node in graph.node for name in node.output}
    for name, grid in own.items():
        allowed: Iterable[tuple[float, int]] = grids.values()
        if name in grids:  # or, where values are only moved and stay on both, the grid before
            before = (grids.get(makers[given].input[0]) for given in _operands(name, makers))
            allowed = [grids[name], *(g for g in before if g and g[0] == grids[name][0])]
        if not _in(grid, allowed):
            yield f"{name}: its encoding is not the ONNX file's"
    for name, grid in grids.items():
        if not _in(grid, own.values()):
            yield f"{name}: its encoding is not in the DLC"


def _operands(name: str, makers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """The dequantized inputs of the operation whose output a quantizer named ``name`` takes."""
    operation = makers.get(makers[name].input[0])
    given = operation.input if operation is not None else ()
    return [one for one in given if one in makers and makers[one].op_type == "DequantizeLinear"]


def _in(grid: tuple[float, int], others: Iterable[tuple[float, int]]) -> bool:
    """Whether a grid, its scale and zero point, is one of others."""
    return any(
        zero == grid[1] and math.isclose(scale, grid[0], rel_tol=_RELATIVE)
        for scale, zero in others
    )


def _copy(name: str, tensors: dict[str, DlcTensor]) -> DlcTensor | None:
    """The copy that the converter made of a tensor with several readers or another layout."""
    stem = name.removesuffix("_integers")
    copies = (t for key, t in tensors.items() if key.startswith((f"{stem}_dup", f"{name}_")))
    return next(copies, None)


def _compare(tensor: DlcTensor, values: NDArray[np.generic], scale: NDArray[np.generic]) -> str:
    if tensor.data is None:
        return "has no data in the DLC"
    if not any(
        candidate.shape == tensor.data.shape and np.array_equal(candidate, tensor.data)
        for candidate in _arrangements(values)
    ):
        return f"its integers differ (DLC {tensor.shape}, ONNX {values.shape})"
    if tensor.encoding is not None and not np.allclose(
        np.atleast_1d(scale), tensor.encoding.scale, rtol=_RELATIVE, atol=0
    ):
        return "its scales differ"
    return ""


def _arrangements(values: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """The values in every order of axes.

    A DLC has a convolution's weight as height, width, input and output, a transposed one's
    likewise, and both with a height of one where there is only a length. It has no numbers alone.
    """
    values = np.atleast_1d(values)
    spread = values[..., None, :] if values.ndim == _OF_LENGTHS else values
    for whole in (values, spread) if spread is not values else (values,):
        for axes in itertools.permutations(range(whole.ndim)):
            yield whole.transpose(axes)
