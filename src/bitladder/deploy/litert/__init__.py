"""A QDQ ONNX model as .tflite: the same integers, scales and biases, for Android's own runtime.

What is translated is the QDQ model that bitladder writes, and not the traced network once more.
Scales, zero points, integers of weights and int32 biases stand in it, saturation of narrow grids
is written out, and ONNX Runtime was measured on it. So both files hold one quantization, and no
second quantizer exists that could part from it.
"""

from bitladder.deploy.litert.describe import (
    Tflite,
    TfliteOperator,
    TfliteTensor,
    parse_tflite,
    read_tflite,
)
from bitladder.deploy.litert.schema import MISSING
from bitladder.deploy.litert.translate import WRITERS, translate, write_tflite

__all__ = [
    "MISSING",
    "WRITERS",
    "Tflite",
    "TfliteOperator",
    "TfliteTensor",
    "parse_tflite",
    "read_tflite",
    "translate",
    "write_tflite",
]
