"""Training with Lightning: the same loop for float networks and for simulated ones."""

from bitladder.training.evaluate import evaluate
from bitladder.training.fit import FitResult, fit
from bitladder.training.tuning import Tuning

__all__ = ["FitResult", "Tuning", "evaluate", "fit"]
