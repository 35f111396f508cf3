"""What LiteRT computes of a .tflite, to the last bit: its integers by their formulas.

XNNPACK multiplies sums by one float32; LiteRT's own kernels, the reference ones among them, by a
fixed-point multiplier and shifts. What runs in float, LiteRT's float kernels compute, operator by
operator, as in ``targets.integer`` for ONNX Runtime.
"""

from bitladder.targets.integer.litert.model import KERNELS, LitertModel
from bitladder.targets.integer.litert.runtime import Kernels, interpreter

__all__ = ["KERNELS", "Kernels", "LitertModel", "interpreter"]
