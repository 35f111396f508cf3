"""Recurrent layers: left whole and in float, since no target here has integers for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

FAMILY = "recurrent"
# Where PyTorch's gates stand in ONNX's order: input, output, forget, cell; update, reset, hidden.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _ordered(weight: Any, kind: str) -> Any:
    gates = np.split(weight, len(_GATES[kind]))
    return np.concatenate([gates[place] for place in _GATES[kind]])


def _recurrent(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> list[str]:
        layer: Any = c.module
        if getattr(layer, "proj_size", 0):
            raise CannotWriteError("proj_size")
        if c.x.rank != 3:
            raise CannotWriteError("a sequence without a batch")
        states = _states(c, kind)
        made: Any = c.x
        if layer.batch_first:
            made = w.moved(c, c.x, w.one("Transpose", [made], perm=[1, 0, 2]))
        ends: list[list[str]] = []
        for level in range(layer.num_layers):
            made, last = _level(w, c, kind, level, made, states)
            ends.append(last)
        if layer.batch_first:
            made = w.one("Transpose", [made], perm=[1, 0, 2])
        return [made, *(_joined(w, [end[i] for end in ends]) for i in range(len(ends[0])))]

    return emit


def _joined(w: Writer, names: list[str]) -> str:
    return names[0] if len(names) == 1 else w.one("Concat", names, axis=0)


def _states(c: Call, kind: str) -> list[Value]:
    given = c.get(1, "hx")
    if given is None:
        return []
    return list(given) if kind == "LSTM" else [given]


def _level(
    w: Writer, c: Call, kind: str, level: int, x: Any, states: list[Value]
) -> tuple[str, list[str]]:
    """One layer of it, in one or both directions."""
    layer: Any = c.module
    ends = ["", "_reverse"] if layer.bidirectional else [""]

    def stacked(name: str) -> Any:
        found = [getattr(layer, f"{name}_l{level}{end}").detach().cpu().numpy() for end in ends]
        return np.stack([_ordered(value, kind) for value in found])

    biases = None
    if layer.bias:
        both = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], 1)
        biases = w.constant(both)
    begin: list[Any] = []
    for state in states:
        count = len(ends)
        cut = [w.constant([v], "int64") for v in (level * count, (level + 1) * count, 0)]
        begin.append(w.one("Slice", [state, *cut]))
    attributes: dict[str, Any] = {
        "hidden_size": layer.hidden_size,
        "direction": "bidirectional" if layer.bidirectional else "forward",
    }
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = ["Relu" if layer.nonlinearity == "relu" else "Tanh"] * len(ends)
    outputs = w.node(
        kind,
        [x, w.constant(stacked("weight_ih")), w.constant(stacked("weight_hh")), biases, None,
         *begin],
        outputs=3 if kind == "LSTM" else 2,
        **attributes,
    )  # fmt: skip
    # (steps, directions, images, hidden) to (steps, images, directions x hidden).
    turned = w.one("Transpose", [outputs[0]], perm=[0, 2, 1, 3])
    whole = w.constant([0, 0, len(ends) * layer.hidden_size], "int64")
    return w.one("Reshape", [turned, whole]), outputs[1:]


register(
    *(
        Operator(kind, FAMILY, _recurrent(kind), modules=(f"nn.{kind}",), grid=Grid.FLOAT,
                 why="no target here has integers for it")
        for kind in _GATES
    )
)  # fmt: skip
