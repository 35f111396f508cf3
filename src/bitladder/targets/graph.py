"""What an artifact says of itself."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from bitladder.errors import TargetError


def output_step(artifact: Path) -> float | None:
    """Scale of the integers of an ONNX file's first output, or None where it is float.

    Raises:
        TargetError: the file is not an ONNX model.
    """
    try:
        graph = onnx.load(artifact).graph
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and graph.output[0].name in node.output:
            scale = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
            return float(numpy_helper.to_array(scale))
    return None
