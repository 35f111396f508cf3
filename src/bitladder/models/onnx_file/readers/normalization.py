"""Normalizations: a module each; their statistics and factors must stand in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.convolution import put
from bitladder.models.onnx_file.readers.table import reads

_BATCH: dict[int, Any] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
_INSTANCE: dict[int, Any] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


@reads("BatchNormalization")
def batch(b: Builder, c: Call) -> Value:
    """``(x - mean) / sqrt(variance + epsilon) scale + bias``."""
    if c.attribute("training_mode", 0) or not c.attribute("spatial", 1):
        raise CannotReadError("training_mode")
    if c.x.rank not in _BATCH:
        raise CannotReadError(f"{c.x.rank} dimensions")
    names = ("weight", "bias", "running_mean", "running_var")
    given = {n: c.need(i).constant(n) for i, n in enumerate(names, 1)}
    momentum = 1 - float(c.attribute("momentum", 0.9))
    layer = _BATCH[c.x.rank](len(given["weight"]), float(c.attribute("epsilon", 1e-5)), momentum)
    put(layer, **given)
    made: Value = b.module(c, layer, c.x, weight=c.need(1).name)
    return made


@reads("InstanceNormalization")
def instance(b: Builder, c: Call) -> Value:
    """Mean and variance of each channel of each image."""
    if c.x.rank not in _INSTANCE:
        raise CannotReadError(f"{c.x.rank} dimensions")
    weight, bias = c.need(1).constant("scale"), c.need(2).constant("B")
    layer = _INSTANCE[c.x.rank](len(weight), float(c.attribute("epsilon", 1e-5)), affine=True)
    put(layer, weight=weight, bias=bias)
    made: Value = b.module(c, layer, c.x, weight=c.need(1).name)
    return made


@reads("LayerNormalization")
def layer(b: Builder, c: Call) -> Value:
    """Mean and variance over the last dimensions."""
    if c.uses(1) or c.uses(2):
        raise CannotReadError("outputs Mean and InvStdDev")
    axis = int(c.attribute("axis", -1)) % c.x.rank
    shape = c.x.sizes[axis:]
    weight = np.broadcast_to(c.need(1).constant("Scale"), shape)
    given = c.get(2)
    bias = np.zeros(shape, weight.dtype) if given is None else given.constant("B")
    made = nn.LayerNorm(shape, float(c.attribute("epsilon", 1e-5)))
    put(made, weight=weight, bias=np.broadcast_to(bias, shape))
    found: Value = b.module(c, made, c.x, weight=c.need(1).name)
    return found


@reads("GroupNormalization")
def group(b: Builder, c: Call) -> Value:
    """Before opset 21 scale and bias are a group's, then a channel's."""
    channels, groups = c.x.sizes[1], int(c.attribute("num_groups", 1))
    weight, bias = c.need(1).constant("scale"), c.need(2).constant("bias")
    if len(weight) == groups != channels:
        weight, bias = (np.repeat(v, channels // groups) for v in (weight, bias))
    made = nn.GroupNorm(groups, channels, float(c.attribute("epsilon", 1e-5)))
    put(made, weight=weight, bias=bias)
    found: Value = b.module(c, made, c.x, weight=c.need(1).name)
    return found


@reads("RMSNormalization")
def root_mean_square(b: Builder, c: Call) -> Value:
    """``x / sqrt(mean(x^2) + epsilon) scale`` over the last dimensions."""
    shape = c.x.sizes[int(c.attribute("axis", -1)) % c.x.rank :]
    made = nn.RMSNorm(shape, float(c.attribute("epsilon", 1e-5)))
    put(made, weight=np.broadcast_to(c.need(1).constant("scale"), shape))
    found: Value = b.module(c, made, c.x, weight=c.need(1).name)
    return found


@reads("LRN")
def response(b: Builder, c: Call) -> Value:
    """PyTorch's window of an even size begins elsewhere than ONNX's."""
    size = int(c.attribute("size"))
    if size % 2 == 0:
        raise CannotReadError(f"size {size}, which is even")
    alpha, beta = float(c.attribute("alpha", 1e-4)), float(c.attribute("beta", 0.75))
    made: Value = b.module(
        c, nn.LocalResponseNorm(size, alpha, beta, float(c.attribute("bias", 1.0))), c.x
    )
    return made


@reads("LpNormalization")
def unit(b: Builder, c: Call) -> Value:
    """Vectors of length 1."""
    order, axis = float(c.attribute("p", 2)), int(c.attribute("axis", -1))
    made: Value = b.call(c, functional.normalize, c.x, order, axis % c.x.rank)
    return made


@reads("MeanVarianceNormalization")
def standard(b: Builder, c: Call) -> Value:
    """``(x - mean) / (deviation + 1e-9)``."""
    axes = [int(a) for a in c.attribute("axes", [0, 2, 3])]
    if c.x.batch in axes:
        raise CannotReadError("axes over the images of a batch")
    mean = b.call(c, torch.mean, c.x, axes, True)
    centred = b.call(c, torch.sub, c.x, mean)
    variance = b.call(c, torch.mean, b.call(c, torch.square, centred), axes, True)
    root = b.call(c, torch.add, b.call(c, torch.sqrt, variance), 1e-9)
    made: Value = b.call(c, torch.div, centred, root)
    return made
