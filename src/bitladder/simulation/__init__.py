"""Quantization simulation: AIMET's simulated network behind one small type."""

from bitladder.simulation.aimet import QuantizerInfo
from bitladder.simulation.analysis import (
    Activation,
    QuantizerRange,
    Sensitivity,
    activations,
    layers,
    sensitivity,
)
from bitladder.simulation.plain import copy_of
from bitladder.simulation.prepare import check, notes_of, prepare
from bitladder.simulation.quality import agreement, device_of, outputs, sqnr
from bitladder.simulation.simulated import SimulatedModel

__all__ = [
    "Activation",
    "QuantizerInfo",
    "QuantizerRange",
    "Sensitivity",
    "SimulatedModel",
    "activations",
    "agreement",
    "check",
    "copy_of",
    "device_of",
    "layers",
    "notes_of",
    "outputs",
    "prepare",
    "sensitivity",
    "sqnr",
]
