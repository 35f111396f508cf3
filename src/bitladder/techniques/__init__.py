"""The steps of a recipe: one file each, registered by its options, network in, network out."""

from bitladder.techniques import (
    adaround,
    bias_correction,
    calibrate,
    cross_layer_equalization,
    finetune,
    fold_batch_norm,
    high_bias_fold,
    integer_finetune,
    mixed_precision,
    reestimate_batch_norm,
    relu6_to_relu,
    sequential_mse,
)
from bitladder.techniques.registry import Context, TrainingData, apply, rebuild

__all__ = [
    "Context",
    "TrainingData",
    "adaround",
    "apply",
    "bias_correction",
    "calibrate",
    "cross_layer_equalization",
    "finetune",
    "fold_batch_norm",
    "high_bias_fold",
    "integer_finetune",
    "mixed_precision",
    "rebuild",
    "reestimate_batch_norm",
    "relu6_to_relu",
    "sequential_mse",
]
