"""Quantization simulation: AIMET's simulated network behind one small type."""

from bitladder.simulation.prepare import prepare
from bitladder.simulation.simulated import QuantizerInfo, SimulatedModel

__all__ = ["QuantizerInfo", "SimulatedModel", "prepare"]
