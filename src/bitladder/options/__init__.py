"""What can be set, room by room: validated options without torch, so that a study loads at once."""

from bitladder.options.base import Options
from bitladder.options.data import DatasetOptions, LoaderOptions
from bitladder.options.explain import ExplainOptions
from bitladder.options.export import ExportOptions, WeightType
from bitladder.options.models import ModelOptions
from bitladder.options.precision import Precision
from bitladder.options.recipes import RECIPES, dump_recipe, parse_recipe, parse_techniques
from bitladder.options.targets import TargetOptions
from bitladder.options.tasks import TaskOptions
from bitladder.options.techniques import (
    TECHNIQUES,
    Adaround,
    BiasCorrection,
    Calibrate,
    CrossLayerEqualization,
    Finetune,
    FoldBatchNorm,
    HighBiasFold,
    IntegerFinetune,
    MixedPrecision,
    ReestimateBatchNorm,
    Relu6ToRelu,
    SequentialMse,
    TakesImages,
    Technique,
    calibration_count,
)
from bitladder.options.training import EarlyStopping, TrainOptions

__all__ = [
    "RECIPES",
    "TECHNIQUES",
    "Adaround",
    "BiasCorrection",
    "Calibrate",
    "CrossLayerEqualization",
    "DatasetOptions",
    "EarlyStopping",
    "ExplainOptions",
    "ExportOptions",
    "Finetune",
    "FoldBatchNorm",
    "HighBiasFold",
    "IntegerFinetune",
    "LoaderOptions",
    "MixedPrecision",
    "ModelOptions",
    "Options",
    "Precision",
    "ReestimateBatchNorm",
    "Relu6ToRelu",
    "SequentialMse",
    "TakesImages",
    "TargetOptions",
    "TaskOptions",
    "Technique",
    "TrainOptions",
    "WeightType",
    "calibration_count",
    "dump_recipe",
    "parse_recipe",
    "parse_techniques",
]
