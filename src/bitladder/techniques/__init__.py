"""The steps of a recipe: one file each, registered by its options, network in, network out."""

import importlib
import pkgutil

from bitladder.techniques.registry import (
    Context,
    TrainingData,
    apply,
    calibration_inputs,
    rebuild,
    register,
    register_rebuild,
)

__all__ = [
    "Context",
    "TrainingData",
    "apply",
    "calibration_inputs",
    "rebuild",
    "register",
    "register_rebuild",
]
for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
