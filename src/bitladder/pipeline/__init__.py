"""A study becomes a graph of stages, the stages run on Dask, their outputs become results."""

from bitladder.pipeline.graph import Cell, Stage, plan
from bitladder.pipeline.run import RunOptions, run

__all__ = ["Cell", "RunOptions", "Stage", "plan", "run"]
