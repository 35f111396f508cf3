"""LSTM, GRU and RNN as PyTorch's own layers, whole."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.convolution import put
from bitladder.models.onnx_file.readers.table import reads

_KINDS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
# Where ONNX's gates (input, output, forget, cell; update, reset, hidden) stand in PyTorch's order.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@reads(*_KINDS)
def recurrent(b: Builder, c: Call) -> list[Value]:
    """A layer in one or both directions; its states begin at zero or where the file says."""
    kind, direction = c.proto.op_type, c.attribute("direction", "forward")
    _check(c, kind)
    weight, again = c.need(1).constant("W"), c.need(2).constant("R")
    given = c.get(3)
    bias = None if given is None else given.constant("B")
    size, both = int(c.attribute("hidden_size", again.shape[-1])), len(weight) == 2
    layer = _KINDS[kind](weight.shape[-1], size, bias=bias is not None, bidirectional=both)
    for end in range(len(weight)):
        _fill(layer, kind, f"l0{'_reverse' if end else ''}", weight[end], again[end],
              None if bias is None else bias[end])  # fmt: skip
    x = b.call(c, torch.flip, c.x, [0]) if direction == "reverse" else c.x
    states = _begin(b, c, kind, len(weight), size)
    made = b.module(c, layer, x, *states)
    return _outputs(b, c, made, kind, direction, len(weight))


def _begin(b: Builder, c: Call, kind: str, ends: int, size: int) -> list[Any]:
    """The states (directions, images, hidden) that a layer begins with, if any is not zero."""
    given = [c.get(5), c.get(6)] if kind == "LSTM" else [c.get(5)]
    if all(one is None or (one.array is not None and not one.array.any()) for one in given):
        return []
    states = [_state(b, c, one, ends, size) for one in given]
    return [tuple(states)] if kind == "LSTM" else states


def _state(b: Builder, c: Call, given: Value | None, ends: int, size: int) -> Value:
    if given is not None and given.array is None:
        return given
    values = np.zeros((ends, 1, size), np.float32) if given is None else given.array
    assert values is not None
    if (values != values[:, :1]).any():
        raise CannotReadError("an initial state that differs between images")
    first = b.call(c, torch.narrow, b.call(c, torch.narrow, c.x, 0, 0, 1), 2, 0, 1)
    made: Value = b.call(c, torch.add, b.call(c, torch.mul, first, 0.0), b.constant(values[:, :1]))
    return made


def _outputs(b: Builder, c: Call, made: Any, kind: str, direction: str, ends: int) -> list[Value]:
    """Of steps (steps, directions, images, hidden), of last states (directions, images, hidden)."""
    wanted = [c.uses(place) for place in range(3)]
    found: list[Any] = [None] * len(c.proto.output)
    if wanted[0]:
        steps = b.call(c, operator.getitem, made, 0)
        if direction == "reverse":
            steps = b.call(c, torch.flip, steps, [0])
        if ends == 1:
            found[0] = b.call(c, torch.unsqueeze, steps, 1)
        else:
            apart = b.call(c, "unflatten", steps, 2, (ends, steps.sizes[2] // ends))
            found[0] = b.call(c, torch.permute, apart, [0, 2, 1, 3])
    if wanted[1] or wanted[2]:
        states = b.call(c, operator.getitem, made, 1)
        for place in (1, 2):
            if wanted[place]:
                lstm = kind == "LSTM"
                found[place] = b.call(c, operator.getitem, states, place - 1) if lstm else states
    return found


def _fill(layer: Any, kind: str, end: str, w: Any, r: Any, bias: Any) -> None:
    put(layer, **{f"weight_ih_{end}": _ordered(w, kind), f"weight_hh_{end}": _ordered(r, kind)})
    if bias is not None:
        first, second = np.split(bias, 2)
        put(layer, **{f"bias_ih_{end}": _ordered(first, kind),
                      f"bias_hh_{end}": _ordered(second, kind)})  # fmt: skip


def _ordered(weight: NDArray[Any], kind: str) -> NDArray[Any]:
    gates = np.split(weight, len(_GATES[kind]))
    return np.concatenate([gates[place] for place in _GATES[kind]])


def _check(c: Call, kind: str) -> None:
    """Refuse what PyTorch's layers do not have."""
    if c.attribute("layout", 0):
        raise CannotReadError("layout 1")
    if c.attribute("clip") or c.attribute("input_forget", 0):
        raise CannotReadError("clip or input_forget")
    if kind == "GRU" and not c.attribute("linear_before_reset", 0):
        raise CannotReadError("linear_before_reset 0")
    given = [value.decode() for value in c.attribute("activations") or []]
    if given and given != _USUAL[kind] * (len(given) // len(_USUAL[kind])):
        raise CannotReadError(f"activations {given}")
    lengths = c.get(4)
    if lengths is not None and (
        lengths.array is None or any(n != c.x.sizes[0] for n in lengths.array)
    ):
        raise CannotReadError("sequence_lens")
    peepholes = c.get(7)
    if peepholes is not None and (peepholes.array is None or peepholes.array.any()):
        raise CannotReadError("P that is not zero")
