"""``bitladder run`` in processes of its own that can be killed, with what it imports at hand.

Python's fork server imports the libraries once; every process that it forks is a whole run.
"""

import multiprocessing
import os
import sys
from pathlib import Path

from bitladder.pipeline.graph import Stage  # noqa: F401

_PRELOADED = [
    "bitladder.cli",
    "bitladder.pipeline.stages",
    "bitladder.report",
    "aimet_torch.quantsim",
    "aimet_torch.onnx",
]
