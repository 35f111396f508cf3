"""The steps of a recipe: one file each, registered by its options, network in, network out."""

from bitladder.techniques import (
    bias_correction,
    calibrate,
    cross_layer_equalization,
    finetune,
    fold_batch_norm,
    high_bias_fold,
    relu6_to_relu,
)
from bitladder.techniques.registry import Context, TrainingData, apply, rebuild

__all__ = [
    "Context",
    "TrainingData",
    "apply",
    "bias_correction",
    "calibrate",
    "cross_layer_equalization",
    "finetune",
    "fold_batch_norm",
    "high_bias_fold",
    "rebuild",
    "relu6_to_relu",
]
