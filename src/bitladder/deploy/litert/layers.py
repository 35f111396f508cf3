"""Convolutions, transposed ones and fully connected layers: int8 or int4 weights, int32 biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from bitladder.deploy.litert.builder import Array, Grid
from bitladder.deploy.litert.source import attributes, refuse
from bitladder.deploy.litert.walk import Held, Walk, channels_last

_INT4_VERSION, _WIDE_VERSION, _VERSION = 7, 5, 3
_FULLY_CONNECTED_VERSION = 12  # the first with a scale a channel
_IMAGES = 4


def convolve(walk: Walk, node: onnx.NodeProto) -> None:
    """Conv as CONV_2D or DEPTHWISE_CONV_2D."""
    if len(walk.source.shapes[node.input[0]]) != _IMAGES:
        raise refuse(node, "only convolutions of images (N, C, H, W) have a form in this format")
    settings = attributes(node)
    x = walk.read(node.input[0], channels_last)
    weight, grid = _weight(walk, node, 0)
    result = _result(walk, node, x)
    groups, (count, inner) = settings.get("group", 1), weight.shape[:2]
    deep = groups > 1 and groups == x.shape[1] and inner == 1
    strides, dilations = (settings.get(key, [1, 1]) for key in ("strides", "dilations"))
    x, same = padded(walk, node, x, weight.shape[2:], result.shape[2:])
    kind = "DepthwiseConv2DOptions" if deep else "Conv2DOptions"
    options = walk.builder.options(
        kind,
        padding=0 if same else 1,
        strideH=strides[0],
        strideW=strides[1],
        dilationHFactor=dilations[0],
        dilationWFactor=dilations[1],
    )
    if deep:
        options.depthMultiplier = count // groups
    order = (1, 2, 3, 0) if deep else (0, 2, 3, 1)
    inputs = [x.place, *_parameters(walk, node, x, weight.transpose(order), grid, 3 if deep else 0)]
    code = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
    walk.builder.op(code, inputs, [result.place], options, version=_version(grid, x))


def convolve_transposed(walk: Walk, node: onnx.NodeProto) -> None:
    """ConvTranspose as TRANSPOSE_CONV without padding, and a SLICE that cuts what padding cuts."""
    settings = attributes(node)
    x = walk.read(node.input[0], channels_last)
    weight, grid = _weight(walk, node, 1)
    if len(x.shape) != _IMAGES or settings.get("group", 1) != 1:
        raise refuse(node, "only 2-D transposed convolutions of one group have a form")
    if any(step != 1 for step in settings.get("dilations", [])):
        raise refuse(node, "transposed convolutions with dilation have no form")
    result = _result(walk, node, x)
    strides, pads = settings.get("strides", [1, 1]), settings.get("pads", [0] * 4)
    whole = [
        (size - 1) * stride + kernel
        for size, stride, kernel in zip(x.shape[2:], strides, weight.shape[2:], strict=True)
    ]
    sizes = result.shape[2:]
    if any(low + size > all_ for low, size, all_ in zip(pads, sizes, whole, strict=False)):
        raise refuse(node, "its output_padding is larger than its padding")
    cut = list(sizes) != whole
    full = (result.shape[0], result.shape[1], *whole)
    made = walk.new("whole", full, result.grid, result.perm) if cut else result
    parameters = _parameters(walk, node, x, weight.transpose(1, 2, 3, 0), grid, 0)
    shape = walk.ints("shape", made.held_shape)
    options = walk.builder.options(
        "TransposeConvOptions", padding=1, strideH=strides[0], strideW=strides[1]
    )
    inputs = [shape, parameters[0], x.place, parameters[1]]
    walk.builder.op("TRANSPOSE_CONV", inputs, [made.place], options, version=3)
    if cut:
        begin = walk.ints("begin", [0, pads[0], pads[1], 0])
        size = walk.ints("size", result.held_shape)
        options = walk.builder.options("SliceOptions")
        walk.builder.op("SLICE", [made.place, begin, size], [result.place], options, version=2)


def multiply(walk: Walk, node: onnx.NodeProto) -> None:
    """Gemm, and MatMul by a constant matrix, as FULLY_CONNECTED."""
    settings = attributes(node)
    gemm = node.op_type == "Gemm"
    if any(settings.get(key, 1.0) != 1.0 for key in ("alpha", "beta")) or settings.get("transA"):
        raise refuse(node, "only products with alpha and beta 1 have a form in this format")
    transposed = gemm and bool(settings.get("transB", 0))
    weight, grid = _weight(walk, node, 0 if transposed else 1)
    if weight.ndim != 2:
        raise refuse(node, "its second factor is no matrix")
    x = walk.read(node.input[0], lambda rank: tuple(range(rank)))
    result = _result(walk, node, x, images=False)
    held = weight if transposed else weight.T
    options = walk.builder.options("FullyConnectedOptions", keepNumDims=len(x.shape) > 2)
    inputs = [x.place, *_parameters(walk, node, x, held, grid, 0)]
    version = _FULLY_CONNECTED_VERSION
    walk.builder.op("FULLY_CONNECTED", inputs, [result.place], options, version=version)


def padded(
    walk: Walk, node: onnx.NodeProto, x: Held, kernel: Sequence[int], sizes: Sequence[int]
) -> tuple[Held, bool]:
    """The input with an explicit PAD where the format's own padding is not the node's.

    Zeros are put around it as its zero point, which is what a convolution adds.

    Returns:
        The input, and whether the operator pads as ``SAME`` does.
    """
    low, high, same = borders(node, x.shape[2:], kernel, sizes)
    if same or not any((*low, *high)):
        return x, same
    return pad(walk, x, low, high), False


def borders(
    node: onnx.NodeProto, given: Sequence[int], kernel: Sequence[int], sizes: Sequence[int]
) -> tuple[list[int], list[int], bool]:
    """Padding before and behind, and whether ``SAME`` pads so."""
    settings = attributes(node)
    if settings.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise refuse(node, "its padding is not explicit")
    strides, dilations = (settings.get(key, [1, 1]) for key in ("strides", "dilations"))
    low = list(settings.get("pads", [0] * 4)[:2])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    needed = [
        max((size - 1) * stride + r - length, 0)
        for size, stride, r, length in zip(sizes, strides, reach, given, strict=True)
    ]
    fits = [-(-length // stride) for length, stride in zip(given, strides, strict=True)]
    same = list(sizes) == fits and low == [total // 2 for total in needed] and any(needed)
    return low, [max(n - at, 0) for n, at in zip(needed, low, strict=True)], same


def pad(
    walk: Walk, x: Held, low: Sequence[int], high: Sequence[int], integer: int | None = None
) -> Held:
    """An image (N, H, W, C) with a border of its zero point, or of another integer."""
    shape = (*x.shape[:2], *(x.shape[2 + i] + low[i] + high[i] for i in range(2)))
    made = walk.new("padded", shape, x.grid, x.perm)
    around = np.asarray([[0, 0], [low[0], high[0]], [low[1], high[1]], [0, 0]], np.int32)
    inputs = [x.place, walk.builder.constant(walk.name("border"), around)]
    if integer is None:
        walk.builder.op("PAD", inputs, [made.place], walk.builder.options("PadOptions"), version=2)
        return made
    inputs.append(walk.builder.constant(walk.name("value"), np.asarray([integer]), x.grid))
    walk.builder.op("PADV2", inputs, [made.place], walk.builder.options("PadV2Options"), version=2)
    return made


def _version(grid: Grid, x: Held) -> int:
    if grid.dtype == "int4":
        return _INT4_VERSION
    return _WIDE_VERSION if x.grid is not None and x.grid.dtype == "int16" else _VERSION


def _weight(walk: Walk, node: onnx.NodeProto, axis: int) -> tuple[Array, Grid]:
    """A layer's integers, and their grid with a scale for each output."""
    source = walk.source.dequantizer(node.input[1])
    if source is None:
        raise refuse(node, "its weights are no integers")
    integers, grid = walk.source.integers(source)
    if grid.dtype not in ("int4", "int8") or grid.zero:
        raise refuse(
            node, f"its weights are {grid.dtype} with zero point {grid.zero}, not int8 with 0"
        )
    if grid.axis not in (None, axis):
        raise refuse(node, "its weights' scales are not those of its outputs")
    scales = np.broadcast_to(grid.scale.ravel(), integers.shape[axis]).astype(np.float32)
    return integers, Grid(scales, 0, grid.dtype, axis)


def _parameters(
    walk: Walk, node: onnx.NodeProto, x: Held, weight: Array, grid: Grid, axis: int
) -> list[int]:
    """Weights and bias as constants."""
    assert x.grid is not None
    name = node.input[1]
    weights = walk.builder.constant(walk.name(name), weight, Grid(grid.scale, 0, grid.dtype, axis))
    values = np.zeros(grid.scale.size, np.int64)
    if len(node.input) > 2 and node.input[2]:
        source = walk.source.dequantizer(node.input[2])
        if source is None:
            raise refuse(node, "its bias is not on the grid of input times weight")
        values = walk.source.integers(source)[0].ravel()
    kind: Any = "int64" if x.grid.dtype == "int16" else "int32"
    bias = Grid((x.grid.scale * grid.scale).astype(np.float32), 0, kind, 0)
    return [weights, walk.builder.constant(walk.name(f"{name}_bias"), values, bias)]


def _result(walk: Walk, node: onnx.NodeProto, x: Held, *, images: bool = True) -> Held:
    rank = len(walk.source.shapes[node.output[0]])
    result = walk.made(node, channels_last(rank) if images else None, [x])
    if result.grid is None or x.grid is None:
        raise refuse(node, "its input or its result lies on no grid")
    return result
