"""One reader an ONNX operator, a file a family as in the operator table."""

from bitladder.models.onnx_file.readers import (
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
    sequence,
    shape,
)
from bitladder.models.onnx_file.readers.table import READERS

__all__ = ["READERS"]
FAMILIES = (activation, convolution, elementwise, index, matmul, normalization, pooling, recurrent,
            reduction, resize, sequence, shape)  # fmt: skip
