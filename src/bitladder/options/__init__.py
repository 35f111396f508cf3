"""What can be set, room by room: validated options without torch, so that a study loads at once."""

from bitladder.options.base import Options
from bitladder.options.data import DatasetOptions, LoaderOptions
from bitladder.options.models import ModelOptions
from bitladder.options.precision import Precision
from bitladder.options.techniques import (
    RECIPES,
    TECHNIQUES,
    BiasCorrection,
    Calibrate,
    CrossLayerEqualization,
    Finetune,
    FoldBatchNorm,
    HighBiasFold,
    Relu6ToRelu,
    Technique,
    parse_recipe,
)
from bitladder.options.training import EarlyStopping, TrainOptions

__all__ = [
    "RECIPES",
    "TECHNIQUES",
    "BiasCorrection",
    "Calibrate",
    "CrossLayerEqualization",
    "DatasetOptions",
    "EarlyStopping",
    "Finetune",
    "FoldBatchNorm",
    "HighBiasFold",
    "LoaderOptions",
    "ModelOptions",
    "Options",
    "Precision",
    "Relu6ToRelu",
    "Technique",
    "TrainOptions",
    "parse_recipe",
]
