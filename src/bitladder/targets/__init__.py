"""Runtimes that execute an artifact, and the comparison with its simulation."""

from bitladder.targets.compare import Comparison, compare
from bitladder.targets.convert import write_context, write_dlc
from bitladder.targets.foreign import graph_inputs, image_lines, quantize_onnx
from bitladder.targets.graph import saturation_risk
from bitladder.targets.htp import QnnInput
from bitladder.targets.latency import Speed, speeds
from bitladder.targets.layers import LayerDifference, layer_differences
from bitladder.targets.names import TARGETS
from bitladder.targets.raw import read_inputs, run_raw
from bitladder.targets.session import (
    Session,
    containers,
    integer_arithmetic,
    integer_logits,
    integer_session,
    open_precise,
    open_target,
    open_unfused,
)

__all__ = [
    "TARGETS",
    "Comparison",
    "LayerDifference",
    "QnnInput",
    "Session",
    "Speed",
    "compare",
    "containers",
    "graph_inputs",
    "image_lines",
    "integer_arithmetic",
    "integer_logits",
    "integer_session",
    "layer_differences",
    "open_precise",
    "open_target",
    "open_unfused",
    "quantize_onnx",
    "read_inputs",
    "run_raw",
    "saturation_risk",
    "speeds",
    "write_context",
    "write_dlc",
]
