"""Quantization simulation: AIMET's simulated network behind one small type."""

from bitladder.simulation.analysis import (
    Activation,
    Layer,
    Sensitivity,
    activations,
    layers,
    sensitivity,
)
from bitladder.simulation.prepare import check, prepare
from bitladder.simulation.quality import agreement, outputs, sqnr
from bitladder.simulation.simulated import QuantizerInfo, SimulatedModel

__all__ = [
    "Activation",
    "Layer",
    "QuantizerInfo",
    "Sensitivity",
    "SimulatedModel",
    "activations",
    "agreement",
    "check",
    "layers",
    "outputs",
    "prepare",
    "sensitivity",
    "sqnr",
]
