"""The operator table: one record an operator, read by every room that speaks of operators."""

from bitladder.operators import (
    activation,
    convolution,
    elementwise,
    index,
    matmul,
    normalization,
    pooling,
    recurrent,
    reduction,
    resize,
    shape,
)
from bitladder.operators.record import (
    Grid,
    Operator,
    conversions,
    function_name,
    grid_of,
    of_module,
    of_node,
    operators,
    register,
)
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

__all__ = [
    "Call",
    "CannotWriteError",
    "Grid",
    "Operator",
    "Value",
    "Writer",
    "conversions",
    "function_name",
    "grid_of",
    "of_module",
    "of_node",
    "operators",
    "register",
]
FAMILIES = (activation, convolution, elementwise, index, matmul, normalization, pooling, recurrent,
            reduction, resize, shape)  # fmt: skip
