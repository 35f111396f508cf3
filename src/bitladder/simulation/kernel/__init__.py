"""Quantize-dequantize, and what calibration counts, in one pass over memory, plugged into AIMET.

The kernel is C++, compiled once with the machine's own compiler and kept in the user's cache;
without a compiler AIMET's own path runs.
"""

from bitladder.simulation.kernel.analyzer import accelerate_analyzer
from bitladder.simulation.kernel.build import KernelUnavailableError, library
from bitladder.simulation.kernel.logits import cross_entropies
from bitladder.simulation.kernel.quantizer import accelerate
from bitladder.simulation.kernel.weights import set_weight_range

__all__ = [
    "KernelUnavailableError",
    "accelerate",
    "accelerate_analyzer",
    "cross_entropies",
    "library",
    "set_weight_range",
]
