"""Every case, a file a family."""

from dataclasses import replace

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
    spelling,
    weights,
)
from conformance.refusals import REFUSED

FAMILIES = (
    convolution, weights, linear, pooling, elementwise, activation, normalization, shape, resize,
    padding, reduction, attention, recurrent, blocks, spelling,
)  # fmt: skip
CASES = tuple(
    replace(case, refused=REFUSED[case.name]) if case.name in REFUSED else case
    for module in FAMILIES
    for case in module.family.cases
)
