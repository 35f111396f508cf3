"""Find the lowest bit width a convolutional network survives, and ship exactly what was measured.

The names below are the whole public API; each loads its room when it is first used, so that
``import bitladder`` stays free of torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bitladder.errors import BitladderError
from bitladder.isolation import isolated

if TYPE_CHECKING:
    from bitladder.float_training import train
    from bitladder.measurement import Measurement
    from bitladder.models.weights import load_weights
    from bitladder.pipeline import RunOptions, plan
    from bitladder.pipeline.results import Results
    from bitladder.quantized import QuantizedModel, quantize
    from bitladder.runs import run, write_report
    from bitladder.tasks import ScoreMeter, Task
    from bitladder.verification import Verification, verify

__version__ = version("bitladder")
__all__ = [
    "BitladderError",
    "Measurement",
    "QuantizedModel",
    "Results",
    "RunOptions",
    "ScoreMeter",
    "Task",
    "Verification",
    "__version__",
    "load_weights",
    "plan",
    "quantize",
    "run",
    "train",
    "verify",
    "write_report",
]

_HOMES = {
    "Measurement": "bitladder.measurement",
    "ScoreMeter": "bitladder.tasks",
    "Task": "bitladder.tasks",
    "QuantizedModel": "bitladder.quantized",
    "Results": "bitladder.pipeline.results",
    "RunOptions": "bitladder.pipeline",
    "load_weights": "bitladder.models.weights",
    "plan": "bitladder.pipeline",
    "quantize": "bitladder.quantized",
    "run": "bitladder.runs",
    "train": "bitladder.float_training",
    "Verification": "bitladder.verification",
    "verify": "bitladder.verification",
    "write_report": "bitladder.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitladder' has no attribute '{name}'")
    with isolated():  # libraries set warnings and environment variables as they are loaded
        return getattr(importlib.import_module(_HOMES[name]), name)
