"""Which weights can saturate the 16-bit sums of x86 kernels without VNNI."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bitladder.deploy.onnx_graph import initializers

_INT16 = np.iinfo(np.int16)
_ACTIVATION = 255  # the largest uint8
_SUMMED = {"Conv", "Gemm", "MatMul"}  # of which ONNX Runtime makes sums of integer products
_BYTES = {TensorProto.UINT8, TensorProto.INT8}


def can_saturate(integers: NDArray[np.integer], axis: int | None = 0) -> bool:
    """Whether two products of int8 weights with uint8 activations may exceed 16 bits.

    Without VNNI, x86 multiplies uint8 by int8 with ``vpmaddubsw``, which adds two neighbours'
    products in 16 bits and saturates. Which weights are neighbours is the kernel's matter, so the
    two largest of an output channel are taken, and the two smallest. Weights of 7 bit or less are
    always safe: ``255 * (64 + 64) < 2^15``.

    Args:
        integers: signed integers of a layer's weights.
        axis: of the output channels, or None for one scale, where all weights are taken as one.
    """
    channels = integers.reshape(1, -1) if axis is None else np.moveaxis(integers, axis, 0)
    ordered = np.sort(channels.reshape(len(channels), -1).astype(np.int64), 1)
    if not ordered.size:
        return False
    lowest, highest = ordered[:, :2].sum(1).min(), ordered[:, -2:].sum(1).max()
    return bool(_ACTIVATION * highest > _INT16.max or _ACTIVATION * lowest < _INT16.min)


def saturating_layers(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Outputs of the layers of a QDQ graph whose int8 weights ``can_saturate``."""
    constants = initializers(graph)
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    found = []
    for node in graph.node:
        if node.op_type not in _SUMMED:
            continue
        data, weight = (makers.get(name) for name in node.input[:2])
        if data is None or weight is None or len(data.input) < 3:
            continue
        integers, zero_point = constants.get(weight.input[0]), constants.get(data.input[2])
        if integers is None or integers.data_type != TensorProto.INT8:
            continue
        if zero_point is None or zero_point.data_type not in _BYTES:
            continue
        scale = constants[weight.input[1]]
        axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)
        per_channel = numpy_helper.to_array(scale).size > 1
        if can_saturate(numpy_helper.to_array(integers), axis if per_channel else None):
            found.append(node.output[0])
    return tuple(found)
