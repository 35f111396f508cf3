"""Pools over windows and over whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.table import reads
from bitladder.models.onnx_file.readers.windows import Window, padded, window

_MAXIMA: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGES: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_WHOLE: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_LOWEST = -1e30  # a maximum never takes it, and float16 files are not read


def _dimensions(c: Call) -> int:
    if c.x.rank - 2 not in _MAXIMA:
        raise CannotReadError(f"{c.x.rank - 2} dimensions")
    return c.x.rank - 2


def _ceil_stands_for(c: Call, w: Window, *, ceil: bool) -> bool:
    """Whether even padding with ``ceil_mode`` gives the windows of uneven padding."""
    if any(pad > size // 2 for pad, size in zip(w.begin, w.kernel, strict=True)):
        return False
    even = Window(w.kernel, w.strides, w.dilations, w.begin, w.begin)
    return even.lengths(c.x.sizes[2:], ceil=True) == w.lengths(c.x.sizes[2:], ceil=ceil)


@reads("MaxPool")
def maximum(b: Builder, c: Call) -> Value:
    """Uneven padding is what ``ceil_mode`` adds, or an operation of its own."""
    count = _dimensions(c)
    if c.uses(1):
        raise CannotReadError("output Indices")
    w, ceil, x = window(c, c.attribute("kernel_shape")), bool(c.attribute("ceil_mode", 0)), c.x
    pads, too_far = w.begin, any(p > k // 2 for p, k in zip(w.begin, w.kernel, strict=True))
    if not w.even and _ceil_stands_for(c, w, ceil=ceil):
        ceil = True
    elif not w.even or too_far:
        w = w.fitted(x.sizes[2:], w.lengths(x.sizes[2:], ceil=ceil))
        x, pads, ceil = padded(b, c, x, w, _LOWEST), (0,) * count, False
    layer = _MAXIMA[count](w.kernel, w.strides, pads, w.dilations, ceil_mode=ceil)
    made: Value = b.module(c, layer, x)
    return made


@reads("AveragePool")
def average(b: Builder, c: Call) -> Value:
    """Means of what lies in the image, or of the zeros around it too."""
    count = _dimensions(c)
    w, ceil, x = window(c, c.attribute("kernel_shape")), bool(c.attribute("ceil_mode", 0)), c.x
    counted = bool(c.attribute("count_include_pad", 0))
    if any(step != 1 for step in w.dilations):
        raise CannotReadError("dilations")
    too_far = any(p > k // 2 for p, k in zip(w.begin, w.kernel, strict=True))
    if w.even and not too_far:
        layer = _AVERAGES[count](w.kernel, w.strides, w.begin, ceil, counted)
        even: Value = b.module(c, layer, x)
        return even
    if not counted and _ceil_stands_for(c, w, ceil=ceil):
        layer = _AVERAGES[count](w.kernel, w.strides, w.begin, True, False)
        made: Value = b.module(c, layer, x)
        return made
    lengths = w.lengths(x.sizes[2:], ceil=ceil)
    fitted = w.fitted(x.sizes[2:], lengths)
    means: Value = b.module(c, _AVERAGES[count](w.kernel, w.strides), padded(b, c, x, fitted))
    factors = np.prod(w.kernel) / _inside(c, w, lengths, counted=counted)
    if (factors == 1).all():
        return means
    wanted = b.constant(factors.astype(np.float32)[None, None])
    scaled: Value = b.call(c, torch.mul, means, wanted)
    return scaled


def _inside(c: Call, w: Window, lengths: list[int], *, counted: bool) -> Any:
    """How many values of the image, with the padding where it counts, each window reads."""
    whole = np.ones(())
    for i, (size, length) in enumerate(zip(c.x.sizes[2:], lengths, strict=True)):
        starts = np.arange(length) * w.strides[i] - w.begin[i]
        first, last = (-w.begin[i], size + w.end[i]) if counted else (0, size)
        line = np.minimum(starts + w.kernel[i], last) - np.maximum(starts, first)
        whole = whole[..., None] * line
    return whole


@reads("GlobalAveragePool")
def global_average(b: Builder, c: Call) -> Value:
    """A mean over all places."""
    made: Value = b.module(c, _WHOLE[_dimensions(c)](1), c.x)
    return made


@reads("GlobalMaxPool")
def global_maximum(b: Builder, c: Call) -> Value:
    """The largest of all places."""
    axes = list(range(2, 2 + _dimensions(c)))
    made: Value = b.call(c, torch.amax, c.x, dim=axes, keepdim=True)
    return made


@reads("LpPool")
def power_average(b: Builder, c: Call) -> Value:
    """``(sum x^p)^(1/p)`` over windows without padding."""
    kinds: dict[int, Any] = {1: nn.LPPool1d, 2: nn.LPPool2d, 3: nn.LPPool3d}
    w = window(c, c.attribute("kernel_shape"))
    if any(w.begin + w.end) or any(step != 1 for step in w.dilations):
        raise CannotReadError("pads or dilations")
    layer = kinds[_dimensions(c)](float(c.attribute("p", 2)), w.kernel, w.strides)
    made: Value = b.module(c, layer, c.x)
    return made
