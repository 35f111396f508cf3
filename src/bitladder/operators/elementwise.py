"""Arithmetic of values at the same place: of two tensors, a tensor and a number, one tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx, nn

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

FAMILY = "elementwise"
_FLOAT, _BOOL = 1, 9  # ONNX's numbers of the types
_EXCLUDED = -100  # what masks give to scores that a softmax must not see


def _operand(w: Writer, c: Call, value: Any) -> Any:
    if isinstance(value, Value):
        return _real(w, value)
    if isinstance(value, bool | int | float):
        return w.number(c, float(value))
    raise CannotWriteError(f"an operand of type {type(value).__name__}")


def _pair(c: Call) -> tuple[Any, Any]:
    first = c.get(0, "input")
    second = c.get(1, "other")
    if any(c.kwargs.get(name) not in (None, 1) for name in ("alpha", "rounding_mode", "out")):
        raise CannotWriteError(", ".join(sorted(set(c.kwargs) - {"input", "other"})))
    return first, second


def _binary(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        return w.one(kind, [_operand(w, c, value) for value in _pair(c)])

    return emit


def _float_number(w: Writer, value: Any) -> Any:
    """An operand that no integer kernel reads, so that a number stays float."""
    return _real(w, value) if isinstance(value, Value) else w.constant(float(value))


def _real(w: Writer, value: Value) -> Any:
    """Truth values and whole numbers as real ones."""
    return value if value.floating else w.one("Cast", [value], to=_FLOAT)


def _float_binary(kind: str, **attributes: Any) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        return w.one(kind, [_float_number(w, value) for value in _pair(c)], **attributes)

    return emit


def _unary(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        others = sorted(set(c.kwargs) - {"input"})
        if others or len(c.args) > 1:
            raise CannotWriteError(", ".join(others) or "more than one argument")
        return w.one(kind, [c.x])

    return emit


def _rooted(w: Writer, c: Call) -> str:
    return w.one("Reciprocal", [w.one("Sqrt", [c.x])])


def _natural_logarithm(w: Writer, c: Call) -> str:
    if w.htp_bits(c) == 16:  # its emulator gives one number for all where results reach over zero
        raise CannotWriteError("a logarithm of 16-bit integers, which the HTP computes wrong")
    return _unary("Log")(w, c)  # type: ignore[return-value]


def _squared(w: Writer, c: Call) -> str:
    return w.one("Mul", [c.x, c.x])


def _power(w: Writer, c: Call) -> str:
    base, exponent = c.get(0, "input"), c.get(1, "exponent")
    if exponent == 2 and isinstance(base, Value):
        return w.one("Mul", [base, base])
    if w.htp and not isinstance(base, Value):
        raise CannotWriteError("a number to the power of a tensor, which the HTP computes wrong")
    return w.one("Pow", [_float_number(w, base), _float_number(w, exponent)])


def _floor_divided(w: Writer, c: Call) -> str:
    return w.one("Floor", [w.one("Div", [_float_number(w, value) for value in _pair(c)])])


def _remainder(w: Writer, c: Call) -> str:
    """``a - b floor(a / b)``: it has the divisor's sign."""
    a, b = (_float_number(w, value) for value in _pair(c))
    whole = w.one("Floor", [w.one("Div", [a, b])])
    return w.one("Sub", [a, w.one("Mul", [b, whole])])


def _where(w: Writer, c: Call) -> str:
    condition, first, second = c.args
    return w.one("Where", [condition, _float_number(w, first), _float_number(w, second)])


def _masked_grid(module: nn.Module | None, node: fx.Node) -> Grid:
    """A number that only excludes values, such as minus infinity before a softmax, has no grid."""
    given = [value for value in node.args[1:] if isinstance(value, int | float)]
    excluded = any(value <= _EXCLUDED or value == math.inf for value in given)
    return Grid.NONE if excluded else Grid.OWN


def _compared(kind: str, *, negated: bool = False) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        found = w.one(kind, [_float_number(w, value) for value in _pair(c)])
        return w.one("Not", [found]) if negated else found

    return emit


def _logical(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        return w.one(kind, list(c.args))

    return emit


def _summed_up(w: Writer, c: Call) -> str:
    axis = int(c.get(1, "dim"))
    return w.one("CumSum", [c.x, w.constant(np.asarray(axis), "int64")])


def _product_added(kind: str) -> Emit:
    """``x + value a b``, or ``x + value a / b``."""

    def emit(w: Writer, c: Call) -> str:
        first, second = c.get(1, "tensor1"), c.get(2, "tensor2")
        made = w.one(kind, [_float_number(w, first), _float_number(w, second)])
        factor = float(c.kwargs.get("value", 1))
        made = made if factor == 1 else w.one("Mul", [made, w.constant(factor)])
        return w.one("Add", [c.x, made])

    return emit


def _between(w: Writer, c: Call) -> str:
    """``a + weight (b - a)``."""
    end, weight = c.get(1, "end"), c.get(2, "weight")
    step = w.one("Sub", [end, c.x])
    return w.one("Add", [c.x, w.one("Mul", [_float_number(w, weight), step])])


def _hypotenuse(w: Writer, c: Call) -> str:
    squares = [w.one("Mul", [one, one]) for one in (c.args[0], c.args[1])]
    return w.one("Sqrt", [w.one("Add", squares)])


def _logarithm(base: float) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        return w.one("Div", [w.one("Log", [c.x]), w.constant(math.log(base))])

    return emit


def _truncated(w: Writer, c: Call) -> str:
    """Towards zero."""
    return w.one("Mul", [w.one("Sign", [c.x]), w.one("Floor", [w.one("Abs", [c.x])])])


def _log_of_sum(w: Writer, c: Call) -> str:
    """``max(a, b) + log(1 + exp(-|a - b|))``."""
    first, second = c.args[:2]
    apart = w.one("Exp", [w.one("Neg", [w.one("Abs", [w.one("Sub", [first, second])])])])
    tail = w.one("Log", [w.one("Add", [apart, w.constant(1.0)])])
    return w.one("Add", [w.one("Max", [first, second]), tail])


def _power_of_two(w: Writer, c: Call) -> str:
    """2^x; the HTP's power gives values that are not finite, its exponential does not."""
    if w.htp:
        return w.one("Exp", [w.one("Mul", [c.x, w.constant(math.log(2))])])
    return w.one("Pow", [w.constant(2.0), c.x])


def _finite(w: Writer, c: Call) -> str:
    """What is no number becomes one."""
    most = float(np.finfo(np.float32).max)
    given = [c.get(i, n) for i, n in ((1, "nan"), (2, "posinf"), (3, "neginf"))]
    nan, above, below = (
        usual if one is None else float(one)
        for one, usual in zip(given, (0.0, most, -most), strict=True)
    )
    made = w.one("Where", [w.one("IsNaN", [c.x]), w.constant(nan), c.x])
    infinite = w.one("IsInf", [made], detect_negative=0)
    made = w.one("Where", [infinite, w.constant(above), made])
    infinite = w.one("IsInf", [made], detect_positive=0)
    return w.one("Where", [infinite, w.constant(below), made])


def _float(name: str, emit: Emit, *functions: str) -> Operator:
    """A function that AIMET has no module for: it runs in float, and its readers round it."""
    return Operator(name, FAMILY, emit, functions=functions or (name,), grid=Grid.FLOAT,
                    why="no module stands for it")  # fmt: skip


def _one(name: str, kind: str | Emit, *becomes: str, modules: tuple[str, ...] = ()) -> Operator:
    emit = _unary(kind) if isinstance(kind, str) else kind
    return Operator(name, FAMILY, emit, modules=modules or (f"aimet.{name}",), becomes=becomes)


def _two(name: str, emit: Emit, *becomes: str) -> Operator:
    return Operator(name, FAMILY, emit, modules=(f"aimet.{name}",), becomes=becomes)


def _boolean(name: str, emit: Emit, *functions: str) -> Operator:
    return Operator(name, FAMILY, emit, functions=functions, grid=Grid.NONE)


register(
    _two("Add", _binary("Add"), "add"),
    _two("Subtract", _binary("Sub"), "sub", "subtract", "rsub"),
    _two("Multiply", _binary("Mul"), "mul", "multiply"),
    _two("Divide", _float_binary("Div"), "div", "divide", "true_divide", "truediv"),
    _two("FloorDivide", _floor_divided, "floordiv", "floor_divide"),
    _two("Maximum", _float_binary("Max"), "maximum", "max"),
    _two("Minimum", _float_binary("Min"), "minimum", "min"),
    _two("Remainder", _remainder, "remainder", "mod"),
    _two("Fmod", _float_binary("Mod", fmod=1), "fmod"),
    _two("Pow", _power, "pow"),
    _two("CumSum", _summed_up, "cumsum"),
    Operator("Where", FAMILY, _where, modules=("aimet.Where",), becomes=("where", "masked_fill"),
             depends=_masked_grid),
    _one("Abs", "Abs", "abs", "absolute"),
    _one("Neg", "Neg", "neg", "negative"),
    _one("Exponential", "Exp", "exp"),
    _one("Log", _natural_logarithm, "log"),
    _one("Sqrt", "Sqrt", "sqrt"),
    _one("RSqrt", _rooted, "rsqrt"),
    _one("Square", _squared, "square"),
    _one("Erf", "Erf", "erf"),
    _one("Sin", "Sin", "sin"),
    _one("Cos", "Cos", "cos"),
    _one("Asin", "Asin", "asin"),
    _one("Atan", "Atan", "atan"),
    _one("Round", "Round", "round"),
    _one("ElementwiseCeil", "Ceil", "ceil"),
    _one("ElementwiseFloor", "Floor", "floor"),
    _one("ElementwiseUnarySign", "Sign", "sign", "sgn"),
    _float("addcmul", _product_added("Mul")),
    _float("addcdiv", _product_added("Div")),
    _float("lerp", _between),
    _float("hypot", _hypotenuse),
    _float("expm1", lambda w, c: w.one("Sub", [w.one("Exp", [c.x]), w.constant(1.0)])),
    _float("log1p", lambda w, c: w.one("Log", [w.one("Add", [c.x, w.constant(1.0)])])),
    _float("log2", _logarithm(2)),
    _float("log10", _logarithm(10)),
    _float("nan_to_num", _finite),
    _float("reciprocal", _unary("Reciprocal")),
    _float("tan", _unary("Tan")),
    _float("acos", _unary("Acos")),
    _float("sinh", _unary("Sinh")),
    _float("cosh", _unary("Cosh")),
    _float("trunc", _truncated, "trunc", "fix"),
    _float("exp2", _power_of_two),
    _float("logaddexp", _log_of_sum),
    _boolean("greater", _compared("Greater"), "gt", "greater"),
    _boolean("less", _compared("Less"), "lt", "less"),
    _boolean("greater or equal", _compared("GreaterOrEqual"), "ge", "greater_equal"),
    _boolean("less or equal", _compared("LessOrEqual"), "le", "less_equal"),
    _boolean("equal", _compared("Equal"), "eq"),
    _boolean("not equal", _compared("Equal", negated=True), "ne", "not_equal"),
    _boolean("and", _logical("And"), "logical_and", "and_", "bitwise_and"),
    _boolean("or", _logical("Or"), "logical_or", "or_", "bitwise_or"),
    _boolean("not", _logical("Not"), "logical_not", "invert", "bitwise_not"),
    _boolean("exclusive or", _logical("Xor"), "logical_xor", "xor"),
    _boolean("truth", lambda w, c: w.one("Cast", [c.x], to=_BOOL), "bool"),
)  # fmt: skip
