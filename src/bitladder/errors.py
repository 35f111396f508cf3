"""The errors a user can meet: each message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BitladderError(Exception):
    """Base of every error that is the input's or the environment's, not a bug of ours."""


class StudyError(BitladderError):
    """A study file, an override or an option is not valid."""


class DataError(BitladderError):
    """Images or labels are missing, corrupt, or of the wrong shape or number of classes."""


class ModelError(BitladderError):
    """A model is unknown, cannot be built or traced, or its weights do not fit."""


class TrainingError(BitladderError):
    """Training ended at chance level or with a loss that is not a number."""


class QuantizationError(BitladderError):
    """A technique cannot be applied to this model at this precision."""


class ExportError(BitladderError):
    """A simulated model cannot be written in the format that was asked for."""


class TargetError(BitladderError):
    """A target is not installed, refused the artifact, or fell back."""


class DlcError(BitladderError):
    """A .dlc file cannot be read or written, or is not one."""


class StoreError(BitladderError):
    """The store or an output folder cannot be read or written."""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> str:
    """Message for a name that is not known, with the nearest known one.

    Args:
        kind: what the name stands for, e.g. ``"model"``.
        name: the name that was given.
        known: the names that exist.
        where: file and key it came from, or empty.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    place = f"{where}: " if where else ""
    return f"{place}unknown {kind} '{name}'; {hint}"
