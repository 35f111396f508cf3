"""Quantize-dequantize, and what calibration counts, in one pass over memory, plugged into AIMET.

The kernel is C++, compiled once with the machine's own compiler and kept in the user's cache;
without a compiler AIMET's own path runs.
"""

from bitladder.simulation.kernel.build import KernelUnavailableError, library
from bitladder.simulation.kernel.observer import accelerate_analyzer
from bitladder.simulation.kernel.quantizer import accelerate
from bitladder.simulation.kernel.weights import rejecting_floats

__all__ = [
    "KernelUnavailableError",
    "accelerate",
    "accelerate_analyzer",
    "library",
    "rejecting_floats",
]
