"""Reductions over dimensions: means and sums are new values, largest and smallest are not."""

from __future__ import annotations

from typing import Any

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Writer

FAMILY = "reduction"


def _axes(c: Call, place: int = 1) -> list[int]:
    given = c.get(place, "dim", c.kwargs.get("axis"))
    if given is None:
        raise CannotWriteError("over all dimensions, images of a batch together")
    axes = [int(a) % c.x.rank for a in (given if isinstance(given, list | tuple) else [given])]
    if any(c.x.free[axis] for axis in axes):
        raise CannotWriteError("over the images of a batch together")
    return axes


def _kept(c: Call) -> int:
    return int(c.result.rank == c.x.rank)


def _reduced(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        over = w.constant(_axes(c), "int64")
        if kind == "ReduceSum" and w.htp_bits(c) == 16 and not _kept(c):
            # Behind a product with constants the HTP's kernel of 16 bit is wrong without this.
            made = w.one(kind, [c.x, over], keepdims=1)
            return w.one("Squeeze", [w.rounded(c, made), over])
        return w.one(kind, [c.x, over], keepdims=_kept(c))

    return emit


def _mean(w: Writer, c: Call) -> str:
    """A mean over a whole image is its global average, which runs on integers."""
    axes = _axes(c)
    if sorted(axes) != list(range(2, c.x.rank)) or c.x.rank not in (3, 4, 5):
        return w.one("ReduceMean", [c.x, w.constant(axes, "int64")], keepdims=_kept(c))
    if c.x.rank != 4:
        return w.one("ReduceMean", [c.x, w.constant(axes, "int64")], keepdims=_kept(c))
    made = w.one("GlobalAveragePool", [c.x])
    if _kept(c):
        return made
    made = w.rounded(c, made)
    return w.one("Squeeze", [made, w.constant(axes, "int64")])


def _extreme(kind: str) -> Emit:
    """The largest or smallest values, and where they stand if that is asked for."""

    def emit(w: Writer, c: Call) -> list[str]:
        if len(c.args) < 2 and not c.kwargs:
            raise CannotWriteError("over all dimensions, images of a batch together")
        over = _axes(c)
        made = [w.one(kind, [c.x, w.constant(over, "int64")], keepdims=_kept(c))]
        if len(c.results) > 1:  # and their places
            place = kind.replace("Reduce", "Arg")
            made.append(w.one(place, [c.x], axis=over[0], keepdims=_kept(c)))
        return made

    return emit


def _norm(w: Writer, c: Call) -> str:
    p = c.get(1, "p", "fro")
    kinds: dict[Any, str] = {"fro": "ReduceL2", 2: "ReduceL2", 1: "ReduceL1"}
    if p not in kinds:
        raise CannotWriteError(f"a norm of order {p}")
    return w.one(kinds[p], [c.x, w.constant(_axes(c, 2), "int64")], keepdims=_kept(c))


def _place(kind: str) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        [axis] = _axes(c)
        return w.one(kind, [c.x], axis=axis, keepdims=_kept(c))

    return emit


def _variance(w: Writer, c: Call) -> str:
    """``sum((x - mean)^2) / (n - correction)``, and its root for the deviation."""
    axes = _axes(c)
    count = 1
    for axis in axes:
        count *= c.x.sizes[axis]
    correction = c.kwargs.get("correction", int(bool(c.get(2, "unbiased", True))))
    correction = 1 if correction is None else correction
    over = w.constant(axes, "int64")
    centred = w.one("Sub", [c.x, w.one("ReduceMean", [c.x, over], keepdims=1)])
    squares = w.one("ReduceSum", [w.one("Mul", [centred, centred]), over], keepdims=_kept(c))
    made = w.one("Div", [squares, w.constant(float(count - correction))])
    return w.one("Sqrt", [made]) if c.function.startswith("std") else made


def _mean_and_variance(w: Writer, c: Call) -> list[str]:
    [variance, mean] = _variance(w, c), _mean(w, c)
    return [variance, mean]


def _log_sum(w: Writer, c: Call) -> str:
    """``log(sum(exp(x)))``, with the largest taken out so that nothing overflows."""
    return w.one("ReduceLogSumExp", [c.x, w.constant(_axes(c), "int64")], keepdims=_kept(c))


def _vector_norm(w: Writer, c: Call) -> str:
    order = c.get(1, "ord", 2)
    if order in (float("inf"), "inf"):
        kind, x = "ReduceMax", w.one("Abs", [c.x])
        return w.one(kind, [x, w.constant(_axes(c, 2), "int64")], keepdims=_kept(c))
    kinds: dict[Any, str] = {2: "ReduceL2", 1: "ReduceL1", None: "ReduceL2", "fro": "ReduceL2"}
    if order not in kinds:
        raise CannotWriteError(f"a norm of order {order}")
    return w.one(kinds[order], [c.x, w.constant(_axes(c, 2), "int64")], keepdims=_kept(c))


register(
    Operator("Mean", FAMILY, _mean, modules=("aimet.Mean",), becomes=("mean",)),
    Operator("Sum", FAMILY, _reduced("ReduceSum"), modules=("aimet.Sum",), becomes=("sum",)),
    Operator("Prod", FAMILY, _reduced("ReduceProd"), modules=("aimet.Prod",), becomes=("prod",)),
    Operator("AMax", FAMILY, _extreme("ReduceMax"), modules=("aimet.AMax",), becomes=("amax",),
             grid=Grid.INPUT),
    Operator("AMin", FAMILY, _extreme("ReduceMin"), modules=("aimet.AMin",), becomes=("amin",),
             grid=Grid.INPUT),
    Operator("max", FAMILY, _extreme("ReduceMax"), functions=("max",), grid=Grid.INPUT),
    Operator("min", FAMILY, _extreme("ReduceMin"), functions=("min",), grid=Grid.INPUT),
    Operator("Norm", FAMILY, _norm, modules=("aimet.Norm",), becomes=("norm",)),
    Operator("argmax", FAMILY, _place("ArgMax"), functions=("argmax",),
             grid=Grid.NONE),
    Operator("argmin", FAMILY, _place("ArgMin"), functions=("argmin",),
             grid=Grid.NONE),
    Operator("logsumexp", FAMILY, _log_sum, functions=("logsumexp",), grid=Grid.FLOAT,
             why="a logarithm of a sum, which grids between them would spoil"),
    Operator("vector_norm", FAMILY, _vector_norm,
             functions=("linalg_vector_norm", "vector_norm"), grid=Grid.FLOAT,
             why="a root of a sum, which grids between them would spoil"),
    Operator("var_mean", FAMILY, _mean_and_variance, functions=("var_mean", "std_mean"),
             grid=Grid.FLOAT, why="a difference of two sums, which grids between them would spoil"),
    Operator("variance", FAMILY, _variance, functions=("var", "std"), grid=Grid.FLOAT,
             why="a difference of two sums, which grids between them would spoil"),
)  # fmt: skip
