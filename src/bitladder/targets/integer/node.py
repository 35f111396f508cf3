"""A node of an optimised graph, its attributes read, and tensors between NumPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from bitladder.errors import TargetError

Array = NDArray[Any]
Given = Sequence[Any]  # arrays, and None for an optional input that is not there
INTEGERS = {
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.UINT16,
    TensorProto.INT16,
    TensorProto.UINT4,
    TensorProto.INT4,
}
"""Types of tensors that lie on a grid."""


class Node:
    """An operation of a graph.

    Args:
        proto: the node.
        constants: of the graph, by name.

    Attributes:
        fixed: the inputs that are constants, None in place of the others.
        cache: what a kernel makes of constants once.
    """

    def __init__(self, proto: onnx.NodeProto, constants: Mapping[str, Array]) -> None:
        self.proto, self.kind, self.domain = proto, proto.op_type, proto.domain
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        self.fixed = [constants.get(name) for name in self.inputs]
        self.cache: dict[str, Any] = {}

    def get(self, name: str, default: Any) -> Any:
        """An attribute, a string decoded."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, why: str = "") -> TargetError:
        """The error that says that this node cannot be computed exactly."""
        what = f"{self.domain}.{self.kind}" if self.domain else self.kind
        return TargetError(f"no integer arithmetic is known for the operation {what}{why}")


Kernel = Callable[[Node, Given], Any]


def tensor(x: Array) -> Tensor:
    """The same values in PyTorch, on the same memory where it can be."""
    if not x.flags.writeable or any(step < 0 for step in x.strides):
        x = x.copy()
    return torch.from_numpy(x)


def centred(x: Array, zero: Array | None, *, exact: bool = False) -> Tensor:
    """Integers less their zero point, in float32, which holds them exactly, or in float64."""
    values = tensor(x).to(torch.float64 if exact else torch.float32)
    return values if zero is None else values - float(zero.reshape(()))


def spread(values: Array | None, axis: int, dimensions: int) -> Any:
    """One value, or one a channel, shaped for a tensor."""
    if values is None:
        return 0
    whole = torch.from_numpy(np.array(values, np.float64 if values.dtype.kind in "iu" else None))
    if whole.numel() == 1:
        return whole.reshape(())
    shape = [1] * dimensions
    shape[axis] = -1
    return whole.reshape(shape)


def saturated(values: Tensor, like: Array) -> Array:
    """Whole numbers as integers of the type that a zero point has."""
    bounds = np.iinfo(like.dtype)
    kept = values.clamp(bounds.min, bounds.max)
    integers: Array = kept.numpy().astype(like.dtype)
    return integers


def rounded(values: Tensor, zero: Array) -> Array:
    """Round half to even, add the zero point, saturate."""
    return saturated(values.round() + float(zero.reshape(())), zero)


def number(value: Array) -> np.float32:
    """A scale of one element."""
    return np.float32(value.reshape(()))
