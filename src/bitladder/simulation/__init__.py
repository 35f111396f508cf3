"""Quantization simulation: AIMET's simulated network behind one small type."""

from bitladder.simulation.analysis import (
    Activation,
    Layer,
    Sensitivity,
    activations,
    layers,
    sensitivity,
)
from bitladder.simulation.plain import copy_of
from bitladder.simulation.prepare import check, notes_of, prepare
from bitladder.simulation.quality import device_of, outputs, sqnr, sqnr_by_output, total_sqnr
from bitladder.simulation.simulated import QuantizerInfo, SimulatedModel

__all__ = [
    "Activation",
    "Layer",
    "QuantizerInfo",
    "Sensitivity",
    "SimulatedModel",
    "activations",
    "check",
    "copy_of",
    "device_of",
    "layers",
    "notes_of",
    "outputs",
    "prepare",
    "sensitivity",
    "sqnr",
    "sqnr_by_output",
    "total_sqnr",
]
