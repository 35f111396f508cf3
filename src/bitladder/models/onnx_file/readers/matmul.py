"""Products of matrices; with a matrix of the file they are linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.convolution import put
from bitladder.models.onnx_file.readers.table import reads


def linear(b: Builder, c: Call, x: Value, weight: Any, bias: Any, name: str) -> Value:
    """A linear layer of a weight (outputs, inputs)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    put(layer, weight=np.ascontiguousarray(weight), bias=bias)
    made: Value = b.module(c, layer, x, weight=name)
    return made


@reads("MatMul")
def product(b: Builder, c: Call) -> Value:
    """A matrix of the file on the right is a layer."""
    left, right = c.need(0), c.need(1)
    if right.array is not None and right.rank == 2 and left.rank > 1:
        bias = c.bias
        if bias is None:
            return linear(b, c, left, right.array.T, None, right.name)
        name = right.name if "." in right.name else bias.name  # exporters rename turned weights
        return linear(b, c, left, right.array.T, bias.array, name)
    made: Value = b.call(c, torch.matmul, left, right)
    return made


@reads("Gemm")
def general(b: Builder, c: Call) -> Value:
    """``alpha A B + beta C``; factors go into the layer's weights."""
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    x, right, added = c.x, c.need(1), c.get(2)
    if c.attribute("transA", 0):
        x = b.call(c, torch.transpose, x, 0, 1)
    if right.array is None:
        if c.attribute("transB", 0):
            right = b.call(c, torch.transpose, right, 0, 1)
        made: Value = b.call(c, torch.matmul, x, right)
        made = made if alpha == 1 else b.call(c, torch.mul, made, alpha)
        return made if added is None else _plus(b, c, made, added, beta)
    weight = right.array if c.attribute("transB", 0) else right.array.T
    weight = weight if alpha == 1 else (alpha * weight).astype(weight.dtype)
    if added is not None and added.array is not None and (
        added.rank < 2 or added.sizes[0] == 1
    ):  # fmt: skip
        bias = np.broadcast_to(added.array.reshape(-1), weight.shape[:1])
        bias = bias if beta == 1 else (beta * bias).astype(weight.dtype)
        return linear(b, c, x, weight, np.ascontiguousarray(bias), right.name)
    made = linear(b, c, x, weight, None, right.name)
    return made if added is None else _plus(b, c, made, added, beta)


def _plus(b: Builder, c: Call, made: Value, added: Value, beta: float) -> Value:
    if beta != 1:
        if added.array is not None:
            added = b.constant(beta * added.array)
        else:
            added = b.call(c, torch.mul, added, beta)
    found: Value = b.call(c, torch.add, made, added)
    return found


@reads("Einsum")
def einsum(b: Builder, c: Call) -> Value:
    """Sums of products, by the file's own equation."""
    if c.attribute("equation") is None:
        raise CannotReadError("no equation")
    given = [c.need(place) for place in range(len(c.inputs))]
    made: Value = b.call(c, torch.einsum, c.attribute("equation"), *given)
    return made
