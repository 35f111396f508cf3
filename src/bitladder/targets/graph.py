"""What an artifact says of itself."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from bitladder.deploy import saturating_layers
from bitladder.errors import TargetError

REMEDY = "export with weights: auto or uint8, or set session.x64quantprecision=1 wherever it runs"


def saturation_risk(artifact: Path) -> str | None:
    """Which of a file's layers may saturate on processors without VNNI, in words, or None.

    Raises:
        TargetError: the file is not an ONNX model.
    """
    layers = saturating_layers(_load(artifact))
    if not layers:
        return None
    named = layers[0] if len(layers) == 1 else f"{layers[0]} and {len(layers) - 1} more"
    return (
        f"int8 weights of {named} can saturate 16-bit sums in a session with default options on "
        f"x86 processors without VNNI, which did not show here; {REMEDY}"
    )


def output_step(artifact: Path) -> float | None:
    """Scale of the integers of an ONNX file's first output, or None where it is float.

    Raises:
        TargetError: the file is not an ONNX model.
    """
    graph = _load(artifact)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and graph.output[0].name in node.output:
            scale = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
            return float(numpy_helper.to_array(scale))
    return None


def _load(artifact: Path) -> onnx.GraphProto:
    try:
        return onnx.load(artifact).graph
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
