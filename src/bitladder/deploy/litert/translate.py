"""Translate a QDQ ONNX model to a .tflite, operator by operator."""

from __future__ import annotations

from pathlib import Path

import onnx

from bitladder.deploy.description import KEY as DESCRIPTION
from bitladder.deploy.litert import elementwise, layers, movement, pooling
from bitladder.deploy.litert.source import Source, refuse
from bitladder.deploy.litert.walk import Walk, Writer, dequantize, identity, quantize
from bitladder.errors import ExportError
from bitladder.files import write_whole

WRITERS: dict[str, Writer] = {
    "Add": elementwise.combine,
    "AveragePool": pooling.pool_average,
    "Clip": elementwise.clamp,
    "Concat": movement.concatenate,
    "Conv": layers.convolve,
    "ConvTranspose": layers.convolve_transposed,
    "DequantizeLinear": dequantize,
    "Flatten": movement.reshape,
    "Gemm": layers.multiply,
    "GlobalAveragePool": pooling.mean,
    "HardSwish": elementwise.apply,
    "Identity": identity,
    "LeakyRelu": elementwise.leaky,
    "MatMul": layers.multiply,
    "MaxPool": pooling.pool_max,
    "Mul": elementwise.combine,
    "Pad": movement.pad,
    "QuantizeLinear": quantize,
    "ReduceMean": pooling.mean,
    "Relu": elementwise.clamp,
    "Reshape": movement.reshape,
    "Resize": movement.resize,
    "Sigmoid": elementwise.apply,
    "Slice": movement.cut,
    "Softmax": elementwise.softmax,
    "Split": movement.split,
    "Squeeze": movement.reshape,
    "Sub": elementwise.combine,
    "Tanh": elementwise.apply,
    "Transpose": movement.transpose,
    "Unsqueeze": movement.reshape,
}
"""What writes each ONNX operator."""


def translate(model: onnx.ModelProto) -> bytes:
    """A .tflite of a QDQ model, for one image a run.

    Its inputs and outputs are the ONNX file's: float32, (1, C, H, W) for images; or their bytes.

    Raises:
        ExportError: an operator of the model has no form in the format; it and its node are named.
    """
    try:
        source = Source(model)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(
            f".tflite: shapes do not follow: {' '.join(str(error).split())}"
        ) from None
    walk = Walk(source)
    inputs = []
    for value in source.graph.input:
        grid = source.byte_grid(value)
        made = walk.new(value.name, source.shapes[value.name], grid)
        inputs.append(made.place)
        walk.carry(value.name, made if grid is None else walk.on(made, grid.signed()))
    for node in source.graph.node:
        writer = WRITERS.get(node.op_type)
        if writer is None or node.domain not in ("", "ai.onnx"):
            raise refuse(node)
        writer(walk, node)
    outputs = [walk.output(name).place for name in source.outputs]
    for entry in model.metadata_props:
        if entry.key == DESCRIPTION:
            walk.builder.describe(entry.key, entry.value.encode())
    return walk.builder.pack(inputs, outputs)


def write_tflite(model: onnx.ModelProto, path: Path) -> None:
    """Write a QDQ model as .tflite.

    Raises:
        ExportError: see ``translate``, or the file cannot be written.
    """
    write_whole(path, translate(model), refusal=ExportError)
