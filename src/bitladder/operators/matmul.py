"""Products of matrices that are both computed, and attention made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitladder.operators.record import Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Writer

FAMILY = "matmul"


def _product(w: Writer, c: Call) -> str:
    return w.one("MatMul", [c.get(0, "input"), c.get(1, "other", c.kwargs.get("mat2"))])


def _added_product(w: Writer, c: Call) -> str:
    added, first, second = c.args[:3]
    if any(c.kwargs.get(name, 1) != 1 for name in ("alpha", "beta")):
        raise CannotWriteError("alpha or beta")
    return w.one("Add", [w.one("MatMul", [first, second]), added])


def _einstein(w: Writer, c: Call) -> str:
    equation, *operands = c.args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if "..." in equation and any(letter.isupper() for letter in equation):
        raise CannotWriteError(f"the equation {equation}")
    return w.one("Einsum", operands, equation=equation.replace(" ", ""))


def _attention(w: Writer, c: Call) -> str:
    """``softmax(q k^T / sqrt(d)) v``."""
    query, key, value = (c.get(i, name) for i, name in enumerate(("query", "key", "value")))
    mask: Any = c.get(3, "attn_mask")
    if c.get(4, "dropout_p", 0.0) or c.kwargs.get("enable_gqa"):
        raise CannotWriteError("dropout or grouped queries")
    if c.get(5, "is_causal", False):
        if query.free[-2] or key.free[-2]:
            raise CannotWriteError("a causal mask over images of a batch")
        seen = np.tril(np.ones((query.sizes[-2], key.sizes[-2]), bool))
        mask = w.constant(seen, bool)
    scale = c.kwargs.get("scale") or 1 / math.sqrt(query.sizes[-1])
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    turned = w.one("Transpose", [key], perm=order)
    scores: Any = w.one("Mul", [w.one("MatMul", [query, turned]), w.constant(float(scale))])
    if mask is not None:
        if isinstance(mask, str) or not mask.floating:
            scores = w.one("Where", [mask, scores, w.constant(-math.inf)])
        else:
            scores = w.one("Add", [scores, mask])
    return w.one("MatMul", [w.one("Softmax", [scores], axis=-1), value])


def _bilinear(w: Writer, c: Call) -> str:
    """``x1 W x2 + b`` for each row of an output."""
    layer: Any = c.module
    weight = w.parameter(c, "weight")
    made = w.one("Einsum", [c.args[0], weight, c.args[1]], equation="...i,oij,...j->...o")
    return made if layer.bias is None else w.one("Add", [made, w.parameter(c, "bias")])


def _cosine(w: Writer, c: Call) -> str:
    """``x y / (max(|x|, eps) max(|y|, eps))`` along one dimension."""
    first, second = c.get(0, "x1"), c.get(1, "x2")
    over = w.constant([int(c.get(2, "dim", 1))], "int64")
    floor = w.constant(float(c.get(3, "eps", 1e-8)))
    products = w.one("ReduceSum", [w.one("Mul", [first, second]), over], keepdims=0)
    norms = [
        w.one("Max", [w.one("ReduceL2", [one, over], keepdims=0), floor]) for one in (first, second)
    ]
    return w.one("Div", [products, w.one("Mul", norms)])


register(
    Operator("MatMul", FAMILY, _product, modules=("aimet.MatMul",),
             becomes=("matmul", "bmm", "mm")),
    Operator("addmm", FAMILY, _added_product, modules=("aimet.Addmm",), becomes=("addmm",)),
    Operator("baddbmm", FAMILY, _added_product, modules=("aimet.Baddbmm",),
             becomes=("baddbmm",)),
    Operator("Bilinear", FAMILY, _bilinear, modules=("nn.Bilinear",)),
    Operator("cosine_similarity", FAMILY, _cosine, functions=("cosine_similarity",),
             grid=Grid.FLOAT, why="a quotient of sums, which grids between them would spoil"),
    Operator("einsum", FAMILY, _einstein, functions=("einsum",), grid=Grid.FLOAT,
             why="no runtime here has an integer kernel for it"),
    Operator("scaled_dot_product_attention", FAMILY, _attention,
             functions=("scaled_dot_product_attention",), grid=Grid.FLOAT,
             why="its softmax lies between two products"),
)  # fmt: skip
