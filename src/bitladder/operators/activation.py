"""Activations: those that clamp are rounded once with what stands before them, others in float."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, Value, Writer

FAMILY = "activation"


def _bounds(module: nn.Module) -> tuple[float, float] | None:
    """Smallest and largest value of an activation that only clamps."""
    if isinstance(module, nn.ReLU6):
        return 0.0, 6.0
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    return 0.0, math.inf


def _clamped(w: Writer, c: Call) -> str:
    assert c.module is not None
    found = _bounds(c.module)
    assert found is not None
    low, high = found
    if low == 0 and math.isinf(high):
        return w.one("Relu", [c.x])
    ends = [None if math.isinf(end) else w.constant(end) for end in (low, high)]
    return w.one("Clip", [c.x, *ends])


def _between(w: Writer, c: Call) -> str:
    """A clamp between bounds that are tensors, or numbers."""
    low, high = c.get(1, "min"), c.get(2, "max")
    if c.function == "clamp_max":
        low, high = None, c.get(1, "max")
    made: Any = c.x
    for kind, end in (("Max", low), ("Min", high)):
        if end is not None:
            made = w.one(kind, [made, end if isinstance(end, Value) else w.constant(float(end))])
    return str(made)


def _simple(kind: str, **names: str) -> Emit:
    """An ONNX operator whose attributes are attributes of the module."""

    def emit(w: Writer, c: Call) -> str:
        attributes = {name: float(getattr(c.module, own)) for name, own in names.items()}
        return w.one(kind, [c.x], **attributes)

    return emit


def _constant_slope(w: Writer, c: Call) -> str:
    module: Any = c.module
    if isinstance(module, nn.RReLU):
        return w.one("LeakyRelu", [c.x], alpha=(module.lower + module.upper) / 2)
    return w.one("LeakyRelu", [c.x], alpha=float(module.negative_slope))


def _learned_slope(w: Writer, c: Call) -> str:
    module: Any = c.module
    count = module.weight.numel()
    shape = [1] if count == 1 else [count, *[1] * (c.x.rank - 2)]
    return w.one("PRelu", [c.x, w.parameter(c, "weight", shape)])


def _celu(w: Writer, c: Call) -> str:
    """``max(0, x) + min(0, a (exp(x / a) - 1))``."""
    alpha = float(getattr(c.module, "alpha", 1.0))
    if w.whole:
        return w.one("Celu", [c.x], alpha=alpha)
    scaled = w.one("Div", [c.x, w.constant(alpha)])
    below = w.one("Sub", [w.one("Exp", [scaled]), w.constant(1.0)])
    negative = w.one("Min", [w.one("Mul", [below, w.constant(alpha)]), w.constant(0.0)])
    return w.one("Add", [w.one("Relu", [c.x]), negative])


def _gelu(w: Writer, c: Call) -> str:
    if w.whole:
        return w.one("Gelu", [c.x], approximate=getattr(c.module, "approximate", "none"))
    if getattr(c.module, "approximate", "none") == "tanh":
        cube = w.one("Mul", [w.one("Mul", [c.x, c.x]), c.x])
        inner = w.one("Add", [c.x, w.one("Mul", [cube, w.constant(0.044715)])])
        bent = w.one("Tanh", [w.one("Mul", [inner, w.constant(math.sqrt(2 / math.pi))])])
    else:
        bent = w.one("Erf", [w.one("Mul", [c.x, w.constant(1 / math.sqrt(2))])])
    half = w.one("Mul", [c.x, w.constant(0.5)])
    return w.one("Mul", [half, w.one("Add", [bent, w.constant(1.0)])])


def _softplus(w: Writer, x: Any, beta: float, threshold: float) -> str:
    """``log(1 + exp(b x)) / b``; PyTorch hands on what lies above the threshold."""
    scaled = x if beta == 1 else w.one("Mul", [x, w.constant(beta)])
    made = w.one("Softplus", [scaled])
    made = made if beta == 1 else w.one("Div", [made, w.constant(beta)])
    above = w.one("Greater", [scaled, w.constant(threshold)])
    return w.one("Where", [above, x, made])


def _softplus_of(w: Writer, c: Call) -> str:
    module: Any = c.module
    return _softplus(w, c.x, float(module.beta), float(module.threshold))


def _mish(w: Writer, c: Call) -> str:
    if w.whole:
        return w.one("Mish", [c.x])
    return w.one("Mul", [c.x, w.one("Tanh", [_softplus(w, c.x, 1.0, 20.0)])])


def _sigmoid(w: Writer, c: Call) -> str:
    made = w.one("Sigmoid", [c.x])
    return _on_zero_to_one(w, made) if w.htp_bits(c) == 16 else made


def _hard_sigmoid(w: Writer, c: Call) -> str:
    """``clamp(x + 3, 0, 6) / 6``, in PyTorch's order, which rounds as it does."""
    if w.whole:
        made = w.one("HardSigmoid", [c.x], alpha=1 / 6, beta=0.5)
        return _on_zero_to_one(w, made) if w.htp_bits(c) == 16 else made
    moved = w.one("Add", [c.x, w.constant(3.0)])
    clipped = w.one("Clip", [moved, w.constant(0.0), w.constant(6.0)])
    return w.one("Div", [clipped, w.constant(6.0)])


def _on_zero_to_one(w: Writer, made: str) -> str:
    """The grid that the HTP's kernels of 16 bit give results for, whatever grid is asked for."""
    grid = [w.constant(1 / (2**16 - 1)), w.constant(0, "uint16")]
    return w.one("DequantizeLinear", [w.one("QuantizeLinear", [made, *grid]), *grid])


def _hard_swish(w: Writer, c: Call) -> str:
    if w.whole:
        return w.one("HardSwish", [c.x])
    moved = w.one("Add", [c.x, w.constant(3.0)])
    clipped = w.one("Clip", [moved, w.constant(0.0), w.constant(6.0)])
    return w.one("Div", [w.one("Mul", [c.x, clipped]), w.constant(6.0)])


def _silu(w: Writer, c: Call) -> str:
    return w.one("Mul", [c.x, w.one("Sigmoid", [c.x])])


def _log_sigmoid(w: Writer, c: Call) -> str:
    """``min(x, 0) - log(1 + exp(-|x|))``."""
    falling = w.one("Exp", [w.one("Neg", [w.one("Abs", [c.x])])])
    logarithm = w.one("Log", [w.one("Add", [falling, w.constant(1.0)])])
    return w.one("Sub", [w.one("Min", [c.x, w.constant(0.0)]), logarithm])


def _hard_shrunk(w: Writer, c: Call) -> str:
    limit = float(getattr(c.module, "lambd", 0.5))
    inside = w.one("LessOrEqual", [w.one("Abs", [c.x]), w.constant(limit)])
    return w.one("Where", [inside, w.constant(0.0), c.x])


def _soft_shrunk(w: Writer, c: Call) -> str:
    limit = float(getattr(c.module, "lambd", 0.5))
    return w.one("Shrink", [c.x], lambd=limit, bias=limit)


def _tanh_shrunk(w: Writer, c: Call) -> str:
    return w.one("Sub", [c.x, w.one("Tanh", [c.x])])


def _threshold(w: Writer, c: Call) -> str:
    module: Any = c.module
    above = w.one("Greater", [c.x, w.constant(float(module.threshold))])
    return w.one("Where", [above, c.x, w.constant(float(module.value))])


def _gated(w: Writer, c: Call) -> str:
    axis = int(getattr(c.module, "dim", -1))
    halves = w.node("Split", [c.x], outputs=2, axis=axis, num_outputs=2)
    return w.one("Mul", [halves[0], w.one("Sigmoid", [halves[1]])])


def _axis(c: Call) -> int:
    axis = c.get(1, "dim")
    axis = getattr(c.module, "dim", None) if axis is None else axis
    if isinstance(c.module, nn.Softmax2d):
        return -3
    if axis is None:  # PyTorch's rule where nobody says which
        return 0 if c.x.rank in (0, 1, 3) else 1
    return int(axis)


def _softmax(w: Writer, c: Call) -> str:
    if isinstance(c.module, nn.Softmin):
        return w.one("Softmax", [w.one("Neg", [c.x])], axis=_axis(c))
    return w.one("Softmax", [c.x], axis=_axis(c))


def _log_softmax(w: Writer, c: Call) -> str:
    return w.one("LogSoftmax", [c.x], axis=_axis(c))


def _of(name: str, emit: Emit | str, *becomes: str) -> Operator:
    emitter = _simple(emit) if isinstance(emit, str) else emit
    return Operator(name, FAMILY, emitter, modules=(f"nn.{name}",), becomes=becomes)


register(
    Operator("ReLU", FAMILY, _clamped, modules=("nn.ReLU",), becomes=("relu",),
             bounds=_bounds),
    Operator("ReLU6", FAMILY, _clamped, modules=("nn.ReLU6",), becomes=("relu6",), bounds=_bounds),
    Operator("Hardtanh", FAMILY, _clamped, modules=("nn.Hardtanh",),
             becomes=("hardtanh", "clamp", "clip", "clamp_min",
                      "clamp_max"), bounds=_bounds),
    Operator("clamp by tensors", FAMILY, _between, functions=("clamp", "clip", "clamp_min",
             "clamp_max"), grid=Grid.FLOAT, why="its bounds are computed"),
    Operator("LeakyReLU", FAMILY, _constant_slope, modules=("nn.LeakyReLU", "nn.RReLU"),
             becomes=("leaky_relu",)),
    Operator("PReLU", FAMILY, _learned_slope, modules=("nn.PReLU",),
             becomes=("prelu",), weights=("weight",)),
    _of("ELU", _simple("Elu", alpha="alpha"), "elu"),
    _of("SELU", "Selu", "selu"),
    _of("CELU", _celu, "celu"),
    _of("GELU", _gelu, "gelu"),
    _of("SiLU", _silu, "silu"),
    _of("Mish", _mish, "mish"),
    _of("Hardswish", _hard_swish, "hardswish"),
    _of("Hardsigmoid", _hard_sigmoid, "hardsigmoid"),
    _of("Sigmoid", _sigmoid, "sigmoid"),
    _of("Tanh", "Tanh", "tanh"),
    _of("Softplus", _softplus_of, "softplus"),
    _of("Softsign", "Softsign", "softsign"),
    _of("LogSigmoid", _log_sigmoid, "logsigmoid", "log_sigmoid"),
    _of("Hardshrink", _hard_shrunk, "hardshrink"),
    _of("Softshrink", _soft_shrunk, "softshrink"),
    _of("Tanhshrink", _tanh_shrunk, "tanhshrink"),
    _of("Threshold", _threshold, "threshold", "_threshold"),
    _of("GLU", _gated, "glu"),
    Operator("Softmax", FAMILY, _softmax, modules=("nn.Softmax", "nn.Softmin", "nn.Softmax2d"),
             becomes=("softmax",)),
    _of("LogSoftmax", _log_softmax, "log_softmax"),
)  # fmt: skip
