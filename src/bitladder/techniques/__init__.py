"""The steps of a recipe: one file each, registered by its options, network in, network out."""

from bitladder.techniques import calibrate, finetune, fold_batch_norm, relu6_to_relu
from bitladder.techniques.registry import Context, TrainingData, apply, rebuild

__all__ = [
    "Context",
    "TrainingData",
    "apply",
    "calibrate",
    "finetune",
    "fold_batch_norm",
    "rebuild",
    "relu6_to_relu",
]
