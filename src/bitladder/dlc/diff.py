"""Compare the static tensors of a .dlc file with the QDQ ONNX it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitladder.dlc.model import Dlc, DlcTensor
from bitladder.errors import DlcError

_LAYOUTS = ((2, 3, 1, 0), (0, 2, 3, 1), (1, 0))  # of ONNX axes in a DLC: HWIO, OHWI, transposed
_RELATIVE = 1e-6  # scales are float32 in both


def differences(dlc: Dlc, artifact: Path) -> list[str]:
    """Every integer tensor of the ONNX file that the DLC holds differently, a line each.

    Args:
        dlc: the file's content.
        artifact: a QDQ ONNX file.

    Raises:
        DlcError: the ONNX file cannot be read, or holds no quantized constants.
    """
    try:
        graph = onnx.load(artifact).graph
    except Exception as error:  # protobuf raises its own, and OSError
        raise DlcError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    static = [t for g in dlc.graphs for t in g.tensors.values() if t.kind == "static"]
    by_name = {tensor.name: tensor for tensor in static}
    found, compared = [], 0
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        compared += 1
        name = node.input[0]
        tensor = by_name.get(name) or _copy(name, by_name)
        if tensor is None:
            found.append(f"{name}: not in the DLC")
            continue
        line = _compare(tensor, constants[name], constants[node.input[1]])
        if line:
            found.append(f"{name}: {line}")
    if not compared:
        raise DlcError(f"{artifact}: holds no quantized constants to compare")
    return found


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


def _arrangements(values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    return [values, *(values.transpose(axes) for axes in _LAYOUTS if len(axes) == values.ndim)]
