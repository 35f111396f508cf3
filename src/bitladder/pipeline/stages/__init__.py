"""What each kind of stage does: read its inputs from the store, call the rooms, return a record."""

from bitladder.pipeline.stages.perform import perform

__all__ = ["perform"]
