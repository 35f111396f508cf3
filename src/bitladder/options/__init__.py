"""What can be set, room by room: validated options without torch, so that a study loads at once."""

from bitladder.options.base import Options
from bitladder.options.data import (
    DatasetOptions,
    InputType,
    LoaderOptions,
    Normalization,
    normalization_of,
    told,
)
from bitladder.options.explain import ExplainOptions
from bitladder.options.export import EncodingsVersion, ExportOptions, WeightType
from bitladder.options.models import ModelOptions
from bitladder.options.precision import Precision
from bitladder.options.recipes import (
    RECIPES,
    dump_recipe,
    fitting,
    parse_recipe,
    parse_techniques,
    suited,
)
from bitladder.options.targets import TargetOptions
from bitladder.options.tasks import TaskOptions
from bitladder.options.technique import TECHNIQUES, TakesImages, Technique, calibration_count
from bitladder.options.techniques import *  # noqa: F403 - each technique by its class
from bitladder.options.training import EarlyStopping, TrainOptions

__all__ = [
    "RECIPES",
    "TECHNIQUES",
    "DatasetOptions",
    "EarlyStopping",
    "EncodingsVersion",
    "ExplainOptions",
    "ExportOptions",
    "InputType",
    "LoaderOptions",
    "ModelOptions",
    "Normalization",
    "Options",
    "Precision",
    "TakesImages",
    "TargetOptions",
    "TaskOptions",
    "Technique",
    "TrainOptions",
    "WeightType",
    "calibration_count",
    "dump_recipe",
    "fitting",
    "normalization_of",
    "parse_recipe",
    "parse_techniques",
    "suited",
    "told",
]
__all__ += [technique.__name__ for technique in TECHNIQUES.values()]
