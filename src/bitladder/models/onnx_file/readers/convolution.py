"""Convolutions: their weights must stand in the file."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.table import reads
from bitladder.models.onnx_file.readers.windows import Window, padded, window

_KINDS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {
    1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d,
}  # fmt: skip


def put(module: nn.Module, **values: Any) -> None:
    """Let parameters or buffers of a module have values of the file."""
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                own = getattr(module, name)
                own.copy_(torch.from_numpy(value.copy()).reshape(own.shape))


@reads("Conv")
def convolution(b: Builder, c: Call) -> Value:
    """Zeros that do not stand evenly around the image become an operation of their own."""
    weight, bias = c.need(1).constant("a weight"), _bias(c)
    if weight.ndim - 2 not in _KINDS:
        raise CannotReadError(f"{weight.ndim - 2} dimensions")
    w, groups, x = window(c, weight.shape[2:]), int(c.attribute("group", 1)), c.x
    if not w.even:
        x = padded(b, c, x, w)
    layer = _KINDS[weight.ndim - 2](
        weight.shape[1] * groups,
        weight.shape[0],
        w.kernel,
        w.strides,
        w.begin if w.even else 0,
        w.dilations,
        groups,
        bias is not None,
    )
    put(layer, weight=weight, bias=bias)
    made: Value = b.module(c, layer, x, weight=c.need(1).name)
    return made


_FUSED: dict[str, Any] = {
    "Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "LeakyRelu": nn.LeakyReLU,
    "Clip": nn.Hardtanh,
}  # fmt: skip


@reads("com.microsoft.FusedConv")
def fused(b: Builder, c: Call) -> Value:
    """What ONNX Runtime writes for a convolution, a sum and an activation when it optimises."""
    kind, params = c.attribute("activation", ""), list(c.attribute("activation_params") or [])
    if kind and kind not in _FUSED:
        raise CannotReadError(f"activation {kind}")
    made = convolution(b, c)
    added = c.get(3)
    if added is not None:
        made = b.call(c, torch.add, made, added)
    fused: Any = b.module(c, _FUSED[kind](*params), made) if kind else made
    assert isinstance(fused, Value)
    return fused


@reads("ConvTranspose")
def transposed(b: Builder, c: Call) -> Value:
    """What stands unevenly around the result is cut off."""
    weight, bias = c.need(1).constant("a weight"), _bias(c)
    count = weight.ndim - 2
    if count not in _TRANSPOSED:
        raise CannotReadError(f"{count} dimensions")
    groups = int(c.attribute("group", 1))
    extra = list(c.attribute("output_padding") or [0] * count)
    w = _transposed_window(c, weight.shape[2:], extra)
    cut = [max(end - begin, 0) for begin, end in zip(w.begin, w.end, strict=True)]
    even = tuple(min(pair) for pair in zip(w.begin, w.end, strict=True))
    layer = _TRANSPOSED[count](
        weight.shape[0],
        weight.shape[1] * groups,
        w.kernel,
        w.strides,
        even,
        extra,
        groups,
        bias is not None,
        w.dilations,
    )
    put(layer, weight=weight, bias=bias)
    made: Value = b.module(c, layer, c.x, weight=c.need(1).name)
    if w.even:
        return made
    ends = [
        slice(begin - least, made.sizes[2 + i] - cut[i])
        for i, (begin, least) in enumerate(zip(w.begin, even, strict=True))
    ]
    found: Value = b.call(c, operator.getitem, made, (slice(None), slice(None), *ends))
    return found


def _transposed_window(c: Call, kernel: Any, extra: list[int]) -> Window:
    auto, wanted = c.attribute("auto_pad", "NOTSET"), c.attribute("output_shape")
    if auto == "NOTSET" and not wanted:
        return window(c, kernel)
    if auto == "VALID":
        return window(c, kernel)
    count = len(kernel)
    strides = tuple(c.attribute("strides") or [1] * count)
    dilations = tuple(c.attribute("dilations") or [1] * count)
    sizes = c.x.sizes[2:]
    goal = list(wanted)[-count:] if wanted else [s * t for s, t in zip(sizes, strides, strict=True)]
    begin, end = [], []
    for i, size in enumerate(sizes):
        full = strides[i] * (size - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = full - goal[i]
        if total < 0:
            raise CannotReadError("output_shape larger than the result")
        small, large = total // 2, total - total // 2
        begin.append(large if auto != "SAME_UPPER" else small)
        end.append(small if auto != "SAME_UPPER" else large)
    return Window(tuple(kernel), strides, dilations, tuple(begin), tuple(end))


def _bias(c: Call) -> Any:
    given = c.get(2)
    return None if given is None else given.constant("a bias")
