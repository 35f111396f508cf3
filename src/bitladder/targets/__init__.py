"""Runtimes that execute an artifact, and the comparison with its simulation."""

from bitladder.targets.compare import Comparison, compare
from bitladder.targets.names import TARGETS
from bitladder.targets.session import Session, containers, integer_session, open_target

__all__ = [
    "TARGETS",
    "Comparison",
    "Session",
    "compare",
    "containers",
    "integer_session",
    "open_target",
]
