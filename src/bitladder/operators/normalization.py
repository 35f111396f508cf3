"""Normalizations: they run in float between grids, with their parameters as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitladder.operators.record import Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

FAMILY = "normalization"


def _channels(c: Call) -> list[int]:
    """The shape that spreads one number a channel over an image."""
    return [-1, *[1] * (c.x.rank - 2)]


def _batch_norm(w: Writer, c: Call) -> str:
    """``gamma (x - mean) / sqrt(var + eps) + beta`` as a product and a sum a channel."""
    norm: Any = c.module
    if norm.running_mean is None:
        return _of_the_batch(w, c)
    variance = norm.running_var.detach().double().cpu().numpy()
    mean = norm.running_mean.detach().double().cpu().numpy()
    ones = np.ones_like(mean)
    gamma = ones if norm.weight is None else norm.weight.detach().double().cpu().numpy()
    beta = 0 * ones if norm.bias is None else norm.bias.detach().double().cpu().numpy()
    given = [gamma, beta, mean, variance]
    names = [w.constant(value.astype(np.float32)) for value in given]
    return w.one("BatchNormalization", [c.x, *names], epsilon=float(norm.eps))


def _of_the_batch(w: Writer, c: Call) -> str:
    """A batch norm without statistics takes those of the images that it is given together."""
    axes = [0, *range(2, c.x.rank)]
    made = _standardized(w, c.x, axes, float(c.module.eps))  # type: ignore[union-attr,arg-type]
    return _affine(w, c, made, _channels(c))


def _standardized(w: Writer, x: Any, axes: list[int], eps: float) -> str:
    """``(x - mean) / sqrt(mean((x - mean)^2) + eps)`` over some axes."""
    over = w.constant(axes, "int64")
    centred = w.one("Sub", [x, w.one("ReduceMean", [x, over], keepdims=1)])
    variance = w.one("ReduceMean", [w.one("Mul", [centred, centred]), over], keepdims=1)
    deviation = w.one("Sqrt", [w.one("Add", [variance, w.constant(eps)])])
    return w.one("Div", [centred, deviation])


def _affine(w: Writer, c: Call, made: str, shape: list[int]) -> str:
    for kind, name in (("Mul", "weight"), ("Add", "bias")):
        if getattr(c.module, name, None) is not None:
            made = w.one(kind, [made, w.parameter(c, name, shape)])
    return made


def _layer_norm(w: Writer, c: Call) -> str:
    norm: Any = c.module
    shape = list(norm.normalized_shape)
    axis = c.x.rank - len(shape)
    if norm.weight is None:
        ones = w.constant(np.ones(shape, np.float32))
        return w.one("LayerNormalization", [c.x, ones], axis=axis, epsilon=float(norm.eps))
    inputs = [c.x, w.parameter(c, "weight"), w.parameter(c, "bias")]
    return w.one("LayerNormalization", inputs, axis=axis, epsilon=float(norm.eps))


def _group_norm(w: Writer, c: Call) -> str:
    norm: Any = c.module
    if not hasattr(norm, "num_groups"):
        return _functional_group_norm(w, c)
    made = _grouped(w, c, int(norm.num_groups), float(norm.eps))
    return _affine(w, c, made, _channels(c))


def _grouped(w: Writer, c: Call, groups: int, eps: float) -> str:
    """Standardize each group of channels of each image."""
    if any(c.x.free[1:]):
        raise CannotWriteError("an image whose size grows with the batch")
    shape = w.constant([0, groups, -1], "int64")
    flat = w.moved(c, c.x, w.one("Reshape", [c.x, shape]))
    ones, zeros = (w.constant(np.full(groups, v, np.float32)) for v in (1.0, 0.0))
    made = w.one("InstanceNormalization", [flat, ones, zeros], epsilon=eps)
    return w.one("Reshape", [made, w.constant([-1, *c.x.sizes[1:]], "int64")])


def _functional_group_norm(w: Writer, c: Call) -> str:
    groups, weight, bias = (c.get(i, n) for i, n in ((1, "num_groups"), (2, "weight"), (3, "bias")))
    made = _grouped(w, c, int(groups), float(c.get(4, "eps", 1e-5)))
    spread = (-1, *[1] * (c.x.rank - 2))
    for kind, value in (("Mul", weight), ("Add", bias)):
        if isinstance(value, Value):
            if value.constant is None:
                raise CannotWriteError("a scale or shift that is computed")
            made = w.one(kind, [made, w.constant(value.constant.reshape(spread))])
    return made


def _instance_norm(w: Writer, c: Call) -> str:
    norm: Any = c.module
    if norm.track_running_stats and norm.running_mean is not None:
        return _batch_norm(w, c)
    count = c.x.sizes[1]
    given = []
    for name, usual in (("weight", 1.0), ("bias", 0.0)):
        own = getattr(norm, name)
        none = np.full(count, usual, np.float32)
        given.append(w.constant(none) if own is None else w.parameter(c, name))
    return w.one("InstanceNormalization", [c.x, *given], epsilon=float(norm.eps))


def _functional_instance_norm(w: Writer, c: Call) -> str:
    names = ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    given = {name: c.get(place, name) for place, name in enumerate(names, 1)}
    if given["running_mean"] is not None and given["use_input_stats"] is False:
        raise CannotWriteError("statistics that are given")
    count = c.x.sizes[1]
    ones, zeros = (w.constant(np.full(count, v, np.float32)) for v in (1.0, 0.0))
    weight = ones if given["weight"] is None else given["weight"]
    bias = zeros if given["bias"] is None else given["bias"]
    eps = 1e-5 if given["eps"] is None else float(given["eps"])
    return w.one("InstanceNormalization", [c.x, weight, bias], epsilon=eps)


def _local_response(w: Writer, c: Call) -> str:
    norm: Any = c.module
    if norm.size % 2 == 0:
        raise CannotWriteError("windows of even size, which ONNX places otherwise")
    return w.one(
        "LRN",
        [c.x],
        size=int(norm.size),
        alpha=float(norm.alpha),
        beta=float(norm.beta),
        bias=float(norm.k),
    )


def _root_mean_square(w: Writer, c: Call) -> str:
    """``x / sqrt(mean(x^2) + eps) weight``."""
    norm: Any = c.module
    shape = list(norm.normalized_shape)
    eps = float(np.finfo(np.float32).eps) if norm.eps is None else float(norm.eps)
    over = w.constant(list(range(c.x.rank - len(shape), c.x.rank)), "int64")
    squares = w.one("ReduceMean", [w.one("Mul", [c.x, c.x]), over], keepdims=1)
    root = w.one("Sqrt", [w.one("Add", [squares, w.constant(eps)])])
    made = w.one("Div", [c.x, root])
    return made if norm.weight is None else w.one("Mul", [made, w.parameter(c, "weight")])


def _normalize(w: Writer, c: Call) -> str:
    """``x / max(||x||_p, eps)`` along one dimension."""
    p, axis = float(c.get(1, "p", 2.0)), int(c.get(2, "dim", 1))
    if p not in (1.0, 2.0):
        raise CannotWriteError(f"a norm of order {p:g}")
    over = w.constant([axis], "int64")
    norm = w.one("ReduceL2" if p == 2 else "ReduceL1", [c.x, over], keepdims=1)
    floor = w.one("Max", [norm, w.constant(float(c.get(3, "eps", 1e-12)))])
    return w.one("Div", [c.x, floor])


register(
    Operator(
        "BatchNorm",
        FAMILY,
        _batch_norm,
        modules=tuple(f"nn.BatchNorm{n}d" for n in (1, 2, 3)),
        becomes=("batch_norm",),
    ),
    Operator("LayerNorm", FAMILY, _layer_norm, modules=("nn.LayerNorm",), becomes=("layer_norm",)),
    Operator("GroupNorm", FAMILY, _group_norm, modules=("nn.GroupNorm", "aimet.GroupNorm"),
             becomes=("group_norm",)),
    Operator("InstanceNorm", FAMILY, _instance_norm,
             modules=tuple(f"nn.InstanceNorm{n}d" for n in (1, 2, 3))),
    Operator("instance_norm", FAMILY, _functional_instance_norm, functions=("instance_norm",),
             grid=Grid.FLOAT, why="its number of channels is not known where it is traced"),
    Operator("LocalResponseNorm", FAMILY, _local_response, modules=("nn.LocalResponseNorm",),
             becomes=("local_response_norm",)),
    Operator("RMSNorm", FAMILY, _root_mean_square, modules=("nn.RMSNorm",),
             becomes=("rms_norm",)),
    Operator("normalize", FAMILY, _normalize, modules=("aimet.Normalize",), becomes=("normalize",)),
)  # fmt: skip
