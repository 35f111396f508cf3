"""What ONNX Runtime's optimised graph computes, to the last bit: its integers by their formulas.

Everything that touches integers is computed here: quantizers, layers, tables, pooling, and what
only moves them. What the runtime leaves in float, between a DequantizeLinear and a QuantizeLinear,
its own float kernels compute, node by node, so that a tie of rounding falls as it does there. That
part is therefore no second opinion: a wrong float operator shows where the simulation is compared
with the file.
"""

from bitladder.targets.integer.model import IntegerModel

__all__ = ["IntegerModel"]
