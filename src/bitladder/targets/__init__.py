"""Runtimes that execute an artifact, and the comparison with its simulation."""

from bitladder.targets.compare import Comparison, compare
from bitladder.targets.names import TARGETS
from bitladder.targets.session import Session, open_target

__all__ = ["TARGETS", "Comparison", "Session", "compare", "open_target"]
