"""Runtimes that execute an artifact, and the comparison with its simulation.

Each name loads its file when it is first used, so that records of comparisons are read without
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitladder.targets.compare_outputs import compare
    from bitladder.targets.comparison import Beside, Comparison
    from bitladder.targets.convert import write_context, write_dlc
    from bitladder.targets.foreign import graph_inputs
    from bitladder.targets.htp import QnnInput
    from bitladder.targets.latency import Speed, speeds
    from bitladder.targets.layers import LayerDifference, layer_differences
    from bitladder.targets.qdq_graph import saturation_risk
    from bitladder.targets.raw import read_inputs, run_raw
    from bitladder.targets.session import (
        Session,
        as_arrays,
        containers,
        integer_arithmetic,
        integer_outputs,
        integer_session,
        open_precise,
        open_target,
        open_unfused,
        target_outputs,
    )
    from bitladder.targets.written import check_suffix, write

__all__ = [
    "Beside",
    "Comparison",
    "LayerDifference",
    "QnnInput",
    "Session",
    "Speed",
    "as_arrays",
    "check_suffix",
    "compare",
    "containers",
    "graph_inputs",
    "integer_arithmetic",
    "integer_outputs",
    "integer_session",
    "layer_differences",
    "open_precise",
    "open_target",
    "open_unfused",
    "read_inputs",
    "run_raw",
    "saturation_risk",
    "speeds",
    "target_outputs",
    "write",
    "write_context",
    "write_dlc",
]
_HOMES = {
    "compare_outputs": ("compare",),
    "comparison": ("Beside", "Comparison"),
    "convert": ("write_context", "write_dlc"),
    "foreign": ("graph_inputs",),
    "qdq_graph": ("saturation_risk",),
    "htp": ("QnnInput",),
    "latency": ("Speed", "speeds"),
    "layers": ("LayerDifference", "layer_differences"),
    "raw": ("read_inputs", "run_raw"),
    "session": (
        "Session",
        "as_arrays",
        "containers",
        "integer_arithmetic",
        "integer_outputs",
        "integer_session",
        "open_precise",
        "open_target",
        "open_unfused",
        "target_outputs",
    ),
    "written": ("check_suffix", "write"),
}

if not TYPE_CHECKING:  # which would let every name pass

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"bitladder.targets.{home}"), name)
        raise AttributeError(f"module 'bitladder.targets' has no attribute '{name}'")
