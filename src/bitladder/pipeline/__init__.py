"""A study becomes a graph of stages, the stages run on Dask, their outputs become results."""

from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.explain import Explanation, explain
from bitladder.pipeline.planning import Cell, Stage, plan
from bitladder.pipeline.results import Results
from bitladder.pipeline.runner import RunOptions, run

__all__ = [
    "Cell",
    "CellResult",
    "Explanation",
    "Results",
    "RunOptions",
    "Stage",
    "explain",
    "plan",
    "run",
]
