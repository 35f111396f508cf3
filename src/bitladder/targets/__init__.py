"""Runtimes that execute an artifact, and the comparison with its simulation."""

from bitladder.targets.compare import Comparison, compare
from bitladder.targets.layers import LayerDifference, layer_differences
from bitladder.targets.names import TARGETS
from bitladder.targets.session import (
    Session,
    containers,
    integer_session,
    open_target,
    open_unfused,
)

__all__ = [
    "TARGETS",
    "Comparison",
    "LayerDifference",
    "Session",
    "compare",
    "containers",
    "integer_session",
    "layer_differences",
    "open_target",
    "open_unfused",
]
