"""Every case, a file a family."""

from conformance.cases import (
    activation,
    attention,
    blocks,
    convolution,
    elementwise,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    shape,
    weights,
)

FAMILIES = (
    convolution, weights, linear, pooling, elementwise, activation, normalization, shape, resize,
    padding, reduction, attention, recurrent, blocks,
)  # fmt: skip
CASES = tuple(case for module in FAMILIES for case in module.family.cases)
