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
from bitladder.simulation.pixels import LEVELS, image_axis, normalized
from bitladder.simulation.placement import WeightedLayer
from bitladder.simulation.plain import copy_of
from bitladder.simulation.prepare import check, note_ranks, notes_of, prepare
from bitladder.simulation.quality import device_of, outputs, sqnr, sqnr_by_output, total_sqnr
from bitladder.simulation.simulated import SimulatedModel

__all__ = [
    "LEVELS",
    "Activation",
    "QuantizerInfo",
    "QuantizerRange",
    "Sensitivity",
    "SimulatedModel",
    "WeightedLayer",
    "activations",
    "check",
    "copy_of",
    "device_of",
    "image_axis",
    "layers",
    "normalized",
    "note_ranks",
    "notes_of",
    "outputs",
    "prepare",
    "sensitivity",
    "sqnr",
    "sqnr_by_output",
    "total_sqnr",
]
