"""Quantize-dequantize, and what calibration counts, in one pass over memory.

The kernel is C++, compiled once with the machine's own compiler and kept in the user's cache, and
Triton on a GPU. It knows nothing of AIMET.
"""

from bitladder.simulation.kernel.build import KernelUnavailableError, library
from bitladder.simulation.kernel.quantize import FakeQuantize, fake_quantize, runs_on

__all__ = ["FakeQuantize", "KernelUnavailableError", "fake_quantize", "library", "runs_on"]
