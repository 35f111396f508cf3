"""What an artifact says of itself."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from bitladder.deploy import saturating_layers
from bitladder.errors import TargetError
from bitladder.outside import read_onnx
from bitladder.targets.remedy import REMEDY


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


def output_steps(artifact: Path) -> dict[str, float]:
    """Scale of the integers of each output of an ONNX file that is not float.

    Raises:
        TargetError: the file is not an ONNX model.
    """
    graph = _load(artifact)
    makers = {name: node for node in graph.node for name in node.output}
    scales = {tensor.name: tensor for tensor in graph.initializer}
    found = {}
    for output in graph.output:
        maker = makers.get(output.name)
        while maker is not None and maker.op_type == "Identity":
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type == "DequantizeLinear":
            scale = scales.get(maker.input[1])
            if scale is not None and not scale.dims:
                found[output.name] = float(numpy_helper.to_array(scale))
    return found


def _load(artifact: Path) -> onnx.GraphProto:
    return read_onnx(artifact, refusal=TargetError).graph
