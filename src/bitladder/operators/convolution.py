"""Convolutions and linear layers: weights a channel, int32 biases, one rounding at the end."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bitladder.operators.record import Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Writer

FAMILY = "convolution"
# PyTorch's names of what stands around the image, and ONNX's.
_AROUND = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _convolution(w: Writer, c: Call) -> str:
    layer: Any = c.module
    assert isinstance(layer, _ConvNd)
    dimensions = len(layer.kernel_size)
    if c.x.rank == dimensions + 1:
        raise CannotWriteError("a convolution of one image without a batch")
    pads = _pads(layer)
    x: Any = c.x
    if layer.padding_mode != "zeros" and any(pads):
        ends = [0, 0, *pads[:dimensions], 0, 0, *pads[dimensions:]]
        around = w.constant(ends, "int64")
        padded = w.one("Pad", [x, around], mode=_AROUND[layer.padding_mode])
        x, pads = w.moved(c, c.x, padded), [0] * len(pads)
    return w.one(
        "Conv",
        [x, w.parameter(c, "weight"), w.bias(c)],
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        group=layer.groups,
        pads=pads,
        kernel_shape=list(layer.kernel_size),
    )


def _pads(layer: Any) -> list[int]:
    """Zeros before and after each dimension, in ONNX's order."""
    if layer.padding == "valid":
        return [0] * (2 * len(layer.kernel_size))
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        before = [total // 2 for total in totals]
        return before + [total - low for total, low in zip(totals, before, strict=True)]
    return list(layer.padding) * 2


def _transposed(w: Writer, c: Call) -> str:
    layer: Any = c.module
    assert isinstance(layer, _ConvTransposeNd)
    extra = list(layer.output_padding)
    if len(c.args) > 1 or c.kwargs:
        wanted = c.get(1, "output_size")
        if wanted is not None:
            extra = _extra(layer, c, list(wanted))
    return w.one(
        "ConvTranspose",
        [c.x, w.parameter(c, "weight"), w.bias(c)],
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        group=layer.groups,
        pads=list(layer.padding) * 2,
        output_padding=extra,
        kernel_shape=list(layer.kernel_size),
    )


def _extra(layer: Any, c: Call, wanted: list[int]) -> list[int]:
    """The output padding that gives an output of a size that was asked for."""
    dimensions = len(layer.kernel_size)
    found = []
    for i, size in enumerate(wanted[-dimensions:]):
        least = (c.x.sizes[2 + i] - 1) * layer.stride[i] - 2 * layer.padding[i]
        found.append(size - least - layer.dilation[i] * (layer.kernel_size[i] - 1) - 1)
    return found


def _linear(w: Writer, c: Call) -> str:
    layer: Any = c.module
    assert isinstance(layer, nn.Linear)
    weight, bias = w.parameter(c, "weight"), w.bias(c)
    if c.x.rank == 2:
        return w.one("Gemm", [c.x, weight, bias], transB=1)
    if c.x.rank == 1:
        raise CannotWriteError("a linear layer of one image without a batch")
    # Rows of a matrix, so that the layer runs as the same integer kernel.
    flat = w.one("Reshape", [c.x, w.constant([-1, layer.in_features], "int64")])
    made = w.one("Gemm", [w.moved(c, c.x, flat), weight, bias], transB=1)
    shape = [-1 if free else size for size, free in zip(c.result.sizes, c.result.free, strict=True)]
    if sum(c.result.free) > 1:
        raise CannotWriteError("a result with the batch in two dimensions")
    return w.one("Reshape", [w.rounded(c, made), w.constant(shape, "int64")])


_LAYER: dict[str, Any] = {"family": FAMILY, "weights": ("weight",)}
register(
    *(
        Operator(
            f"Conv{n}d",
            emit=_convolution,
            modules=(f"nn.Conv{n}d",),
            becomes=(f"conv{n}d",),
            **_LAYER,
        )
        for n in (1, 2, 3)
    ),
    *(
        Operator(
            f"ConvTranspose{n}d",
            emit=_transposed,
            modules=(f"nn.ConvTranspose{n}d",),
            becomes=(f"conv_transpose{n}d",),
            **_LAYER,
        )
        for n in (1, 2, 3)
    ),
    Operator(
        "Linear",
        emit=_linear,
        modules=("nn.Linear",),
        becomes=("linear",),
        **_LAYER,
    ),
)
