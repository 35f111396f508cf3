"""The errors a user can meet: each message says what was wrong, where, and what to do.

Each kind has a code, which never changes; docs/errors.md explains it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class BitladderError(Exception):
    """Base of every error that is the input's or the environment's, not a bug of ours.

    Attributes:
        code: of its kind, such as ``BL020``.
    """

    code: ClassVar[str] = "BL000"

    @property
    def told(self) -> str:
        """The message behind its code, in one line."""
        return f"{self.code}: {self}"


class StudyError(BitladderError):
    """A study file, an override or an option is not valid."""

    code = "BL010"


class DataError(BitladderError):
    """Images or labels are missing, corrupt, or of the wrong shape or number of classes."""

    code = "BL020"


class ModelError(BitladderError):
    """A model is unknown, cannot be built or traced, or its weights do not fit."""

    code = "BL030"


class TrainingError(BitladderError):
    """Training ended at chance level or with a loss that is not a number."""

    code = "BL040"


class QuantizationError(BitladderError):
    """A technique cannot be applied to this model at this precision."""

    code = "BL050"


class ExportError(BitladderError):
    """A simulated model cannot be written in the format that was asked for."""

    code = "BL060"


class TargetError(BitladderError):
    """A target is not installed, refused the artifact, or fell back."""

    code = "BL070"


class DlcError(BitladderError):
    """A .dlc file cannot be read or written, or is not one."""

    code = "BL080"


class StoreError(BitladderError):
    """The store or an output folder cannot be read or written."""

    code = "BL090"


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
