"""Activations: a module each, with the file's attributes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.convolution import put
from bitladder.models.onnx_file.readers.table import reads

_PLAIN: dict[str, Any] = {
    "Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "Softplus": nn.Softplus,
    "Softsign": nn.Softsign, "HardSwish": nn.Hardswish, "Mish": nn.Mish,
    "com.microsoft.Gelu": nn.GELU,
}  # fmt: skip


@reads(*_PLAIN)
def plain(b: Builder, c: Call) -> Value:
    """An activation without attributes."""
    made: Value = b.module(c, _PLAIN[c.kind](), c.x)
    return made


@reads("LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "ThresholdedRelu")
def shaped(b: Builder, c: Call) -> Value:
    """An activation with an attribute."""
    kind = c.proto.op_type
    layer: nn.Module
    if kind == "LeakyRelu":
        layer = nn.LeakyReLU(c.attribute("alpha", 0.01))
    elif kind == "Elu":
        layer = nn.ELU(c.attribute("alpha", 1.0))
    elif kind == "Celu":
        layer = nn.CELU(c.attribute("alpha", 1.0))
    elif kind == "Gelu":
        layer = nn.GELU(c.attribute("approximate", "none"))
    elif kind == "ThresholdedRelu":
        layer = nn.Threshold(c.attribute("alpha", 1.0), 0.0)
    else:
        alpha, gamma = c.attribute("alpha", 1.67326319), c.attribute("gamma", 1.05070102)
        usual = math.isclose(alpha, 1.67326319, rel_tol=1e-4)
        if not (usual and math.isclose(gamma, 1.05070102, rel_tol=1e-4)):
            scaled: Value = b.call(c, torch.mul, b.module(c, nn.ELU(alpha), c.x), float(gamma))
            return scaled
        layer = nn.SELU()
    made: Value = b.module(c, layer, c.x)
    return made


@reads("PRelu")
def learned(b: Builder, c: Call) -> Value:
    """A slope for all channels or one for each."""
    slope = c.need(1).constant("a slope")
    channels = c.x.sizes[1] if c.x.rank > 1 else 1
    by_channel = (1, channels, *[1] * (c.x.rank - 2))[-max(slope.ndim, c.x.rank - 1) :]
    if slope.size != 1 and slope.shape != by_channel:
        return _learned_by_place(b, c)
    layer = nn.PReLU(slope.size)
    put(layer, weight=slope)
    made: Value = b.module(c, layer, c.x, weight=c.need(1).name)
    return made


def _learned_by_place(b: Builder, c: Call) -> Value:
    """Slopes for other dimensions than the channels, ``relu(x) - slope relu(-x)``."""
    slope = c.need(1)
    below = b.module(c, nn.ReLU(), b.call(c, torch.neg, c.x))
    part = b.call(c, torch.mul, below, slope)
    made: Value = b.call(c, torch.sub, b.module(c, nn.ReLU(), c.x), part)
    return made


@reads("Swish", "com.microsoft.QuickGelu")
def swish(b: Builder, c: Call) -> Value:
    """``x sigmoid(alpha x)``."""
    alpha = float(c.attribute("alpha", 1.0 if c.kind == "Swish" else 1.702))
    if alpha == 1:
        usual: Value = b.module(c, nn.SiLU(), c.x)
        return usual
    gate = b.module(c, nn.Sigmoid(), b.call(c, torch.mul, c.x, alpha))
    made: Value = b.call(c, torch.mul, c.x, gate)
    return made


@reads("Shrink")
def shrink(b: Builder, c: Call) -> Value:
    """Zero within ``lambd`` of zero, elsewhere nearer to it by ``bias``."""
    limit, bias = float(c.attribute("lambd", 0.5)), float(c.attribute("bias", 0.0))
    if bias not in (0.0, limit):
        raise CannotReadError(f"lambd {limit:.6g} and bias {bias:.6g}")
    made: Value = b.module(c, nn.Softshrink(limit) if bias else nn.Hardshrink(limit), c.x)
    return made


@reads("HardSigmoid")
def hard_sigmoid(b: Builder, c: Call) -> Value:
    """``max(0, min(1, alpha x + beta))``."""
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        usual: Value = b.module(c, nn.Hardsigmoid(), c.x)
        return usual
    scaled = b.call(c, torch.add, b.call(c, torch.mul, c.x, float(alpha)), float(beta))
    made: Value = b.module(c, nn.Hardtanh(0.0, 1.0), scaled)
    return made


@reads("Clip")
def clip(b: Builder, c: Call) -> Value:
    """Bounds are attributes in older files and inputs in newer ones."""
    low, high = _bound(c, 1, "min"), _bound(c, 2, "max")
    layer: nn.Module | None = None
    if (low, high) == (0.0, 6.0):
        layer = nn.ReLU6()
    elif (low, high) == (0.0, None):
        layer = nn.ReLU()
    elif low is not None and high is not None:
        layer = nn.Hardtanh(low, high)
    if layer is not None:
        made: Value = b.module(c, layer, c.x)
        return made
    if low is None and high is None:
        return c.x
    one: Value = b.call(c, torch.clamp, c.x, min=low, max=high)
    return one


def _bound(c: Call, place: int, name: str) -> float | None:
    given = c.get(place)
    value = c.attribute(name) if given is None else float(given.constant(name).reshape(()))
    most = float(np.finfo(np.float32).max)
    return None if value is None or abs(value) >= most else float(value)


@reads("Softmax", "LogSoftmax")
def softmax(b: Builder, c: Call) -> Value:
    """Before opset 13 all dimensions from the axis on are one."""
    kind = nn.Softmax if c.proto.op_type == "Softmax" else nn.LogSoftmax
    axis = int(c.attribute("axis", -1 if c.opset >= 13 else 1)) % c.x.rank
    alone = math.prod(c.x.sizes[axis + 1 :]) == 1
    if c.opset >= 13 or alone:
        made: Value = b.module(c, kind(dim=axis), c.x)
        return made
    flat = b.call(c, torch.flatten, c.x, axis)
    even = b.module(c, kind(dim=axis), flat)
    whole: Value = b.call(c, "unflatten", even, axis, c.x.sizes[axis:])
    return whole
