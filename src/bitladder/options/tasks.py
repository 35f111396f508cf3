"""Options of the tasks: what networks' outputs mean."""

from __future__ import annotations

from pydantic import model_validator

from bitladder.options.base import Options, Version


class TaskOptions(Options):
    """What the outputs of a study's networks mean, and what is measured of them."""

    name: str = "classification"
    """``classification``, ``segmentation``, ``detection``, ``restoration``, or the user's own
    as package.module:Class."""
    version: Version | None = None
    """Version of code that the key cannot see: part of every key; change it with that code."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value
