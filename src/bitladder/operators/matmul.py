"""Products of matrices that are both computed, and attention made of them."""

from __future__ import annotations

import math
from typing import Any

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
    mask = c.get(3, "attn_mask")
    if c.get(4, "dropout_p", 0.0) or c.get(5, "is_causal", False) or c.kwargs.get("enable_gqa"):
        raise CannotWriteError("dropout, a causal mask or grouped queries")
    scale = c.kwargs.get("scale") or 1 / math.sqrt(query.sizes[-1])
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    turned = w.one("Transpose", [key], perm=order)
    scores: Any = w.one("Mul", [w.one("MatMul", [query, turned]), w.constant(float(scale))])
    if mask is not None:
        if not mask.floating:
            raise CannotWriteError("a mask of truth values")
        scores = w.one("Add", [scores, mask])
    return w.one("MatMul", [w.one("Softmax", [scores], axis=-1), value])


register(
    Operator("MatMul", FAMILY, _product, modules=("aimet.MatMul", "aimet.Bmm"),
             becomes=("matmul", "bmm", "mm")),
    Operator("addmm", FAMILY, _added_product, modules=("aimet.Addmm", "aimet.Baddbmm"),
             becomes=("addmm", "baddbmm")),
    Operator("einsum", FAMILY, _einstein, functions=("einsum",), grid=Grid.FLOAT,
             why="no runtime here has an integer kernel for it"),
    Operator("scaled_dot_product_attention", FAMILY, _attention,
             modules=("aimet.ScaledDotProductAttention",),
             functions=("scaled_dot_product_attention",), grid=Grid.FLOAT,
             why="its softmax lies between two products"),
)  # fmt: skip
