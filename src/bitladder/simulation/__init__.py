"""Quantization simulation: AIMET's simulated network behind one small type."""

from bitladder.simulation.analysis import Layer, Sensitivity, layers, sensitivity
from bitladder.simulation.prepare import check, prepare
from bitladder.simulation.quality import agreement, outputs, sqnr
from bitladder.simulation.simulated import QuantizerInfo, SimulatedModel

__all__ = [
    "Layer",
    "QuantizerInfo",
    "Sensitivity",
    "SimulatedModel",
    "agreement",
    "check",
    "layers",
    "outputs",
    "prepare",
    "sensitivity",
    "sqnr",
]
