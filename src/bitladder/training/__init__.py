"""Training with Lightning: the same loop for float networks and for simulated ones."""

from bitladder.training.evaluate import evaluate
from bitladder.training.fit import FitResult, fit

__all__ = ["FitResult", "evaluate", "fit"]
