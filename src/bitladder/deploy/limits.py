"""Steps of a grid that are too fine for ONNX Runtime's integer kernels, and grids made coarser.

Where calibration saw nothing but zeros, a grid has the finest step there is, 2^-23. A kernel that
rounds integers of an ordinary step to such a grid refuses while it runs, or its integers overflow
and saturate at the wrong end. Between two results that such a kernel can give lie more steps than
the whole grid has, so that a coarser grid holds all that the fine one held: zero, and what
saturates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from bitladder.deploy.biases import widen
from bitladder.deploy.onnx_graph import initializers
from bitladder.errors import ExportError
from bitladder.simulation import QuantizerInfo, SimulatedModel

_LEVELS = 255  # the largest distance of an 8-bit integer from its zero point
_INT32 = 2.0**30  # half of what int32 holds, so that a zero point can be added
_AVERAGE = 255  # QLinearGlobalAveragePool refuses a factor of 256 and more
_APART = 256  # no kernel has a limit where scales are nearer to each other
_BYTES = {TensorProto.UINT8, TensorProto.INT8}

Write = Callable[[], tuple[onnx.ModelProto, dict[str, str]]]


def fit_grids(simulated: SimulatedModel, write: Write) -> None:
    """Make grids of the simulation coarser until ONNX Runtime's kernels can compute with them.

    Args:
        simulated: a calibrated network; ranges of its quantizers are changed.
        write: makes the QDQ file of the network as it is, and says which quantizer the constants
            that are scales come from, both by name.
    """
    for _ in simulated.quantizers():  # a grid that grows may be too coarse for the next
        if not _far_apart(simulated):
            return
        try:
            model, owners = write()
        except ExportError:  # without a file there is no kernel
            return
        quantizers: dict[str, Any] = {i.name: quantizer for i, quantizer in simulated.quantizers()}
        found = [(owners[name], least) for name, least in too_fine(model) if name in owners]
        if not found:
            return
        for name, least in found:
            scale = quantizers[name].get_scale().detach()
            widen(quantizers[name], torch.full_like(scale, least))


def too_fine(model: onnx.ModelProto) -> Iterator[tuple[str, float]]:
    """Scales of a QDQ file that are too fine for the kernel before them, each with the least.

    The limits are those of ``QLinearGlobalAveragePool``, ``QLinearAveragePool``, ``QLinearAdd`` and
    ``QLinearMul`` of ONNX Runtime (its ``mlas/lib/qlgavgpool.cpp``, ``qladd.cpp``, ``qlmul.cpp``):
    the first refuses s_x / (s_y H W) from 256 on, the others convert to int32 what they round.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = initializers(graph)
    makers = {name: node for node in graph.node for name in node.output}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    for quantize in graph.node:
        if quantize.op_type != "QuantizeLinear":
            continue
        node = makers.get(quantize.input[0])
        least = None if node is None else _LEAST.get(node.op_type)
        if node is None or least is None or constants[quantize.input[2]].data_type not in _BYTES:
            continue
        given = [makers.get(name) for name in node.input]
        if any(one is None or one.op_type != "DequantizeLinear" for one in given):
            continue
        scales = [_number(constants[one.input[1]]) for one in given if one is not None]
        needed = least(scales, shapes.get(node.input[0], []))
        if _number(constants[quantize.input[1]]) < needed:
            yield quantize.input[1], needed


def _global_average(scales: Sequence[float], shape: Sequence[int]) -> float:
    return scales[0] / (_AVERAGE * max(int(np.prod(shape[2:])), 1))


def _sum(scales: Sequence[float], _: Sequence[int]) -> float:
    return _LEVELS * sum(scales) / _INT32


def _product(scales: Sequence[float], _: Sequence[int]) -> float:
    return float(np.prod([_LEVELS * scale for scale in scales])) / _INT32


_LEAST: dict[str, Callable[[Sequence[float], Sequence[int]], float]] = {
    "Add": _sum,
    "AveragePool": _sum,
    "GlobalAveragePool": _global_average,
    "Mul": _product,
}
"""The least scale of a result, from the scales and the shape of what is read."""


def _number(tensor: onnx.TensorProto) -> float:
    return float(numpy_helper.to_array(tensor).max())


def _far_apart(simulated: SimulatedModel) -> bool:
    """Whether any two grids of activations are so different that a kernel could have a limit."""
    every: list[tuple[QuantizerInfo, Any]] = list(simulated.quantizers())
    scales = [
        float(quantizer.get_scale().detach().max())
        for info, quantizer in every
        if info.kind != "weight" and quantizer.is_initialized()
    ]
    if not scales:
        return False
    coarsest = max(scales)
    return max(coarsest, coarsest**2) >= _APART * min(scales)
