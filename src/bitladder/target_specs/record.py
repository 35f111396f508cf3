"""What is asked of a target, in one record."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitladder.errors import StudyError

Loads = str | Callable[..., Any]
"""A function, or where it is found, as ``module:name``."""


@dataclass(frozen=True)
class Dialect:
    """The form of a QDQ file that a target reads.

    Attributes:
        file: its name in a cell's folder; targets that read one form share it.
        int4: store 4-bit weights with a scale a channel as int4 (opset 21) in place of int8.
        one_sign: store narrow activations with the sign of their integer type.
        weights: integer types that weights of up to 8 bit may have.
    """

    file: str = "model.onnx"
    int4: bool = False
    one_sign: bool = False
    weights: tuple[str, ...] = ("int8", "uint8", "auto")


@dataclass(frozen=True)
class GridRules:
    """What a target's format demands of the grids of activations; by default nothing.

    The simulation meets it before ranges are found, so that what is measured can be written.

    Attributes:
        symmetric_above: activations of more bits have their zero point in the middle of the grid.
        joined: operators whose output stays within the range of what they read (see
            ``operators.Operator.within``) lie on one grid with all of it.
        fixed: lowest and highest value of the 8-bit grid of an operator's output, by the operator's
            name.
    """

    symmetric_above: int | None = None
    joined: bool = False
    fixed: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def demand(self) -> bool:
        """Whether anything is demanded."""
        return self != GridRules()


@dataclass(frozen=True)
class TargetSpec:
    """A runtime that executes an artifact.

    Attributes:
        name: in studies and columns: letters and digits.
        title: what a reader calls it.
        open: maps the artifact's path, and ``threads`` and ``version`` by name, to a session (see
            ``targets.Session``). It raises ``TargetError`` where the target refuses the artifact.
        open_precise: likewise, with ``threads``, a session whose sums are exact, where those of
            the target's own may saturate.
        open_integer: maps the artifact's path to a session that computes what the target's integer
            kernels do, in every value. Without it ONNX Runtime's arithmetic of the file is what the
            target is compared with.
        packages: distributions that it runs on; their versions are part of its results' keys.
        extra: of bitladder that installs them, or None where it needs no more than bitladder.
        dialect: the form of the file that it reads.
        versions: that may be asked for, such as ``v75``.
        grids: what its format demands of the grids of activations.
        containers: widths of the integers that it has, in bits; narrower ones are held by the
            next. Empty where it takes all widths as they are.
        images: how many validation images it runs by default; None is all.
        cost: what running it takes, in words, or nothing.
        file_title: what a reader calls the file that it loads.
        file_size: maps the artifact's path to the bytes of the file that it loads, where that is
            another one.
        timed: its time for an image is what a user will see, so that it is measured.
    """

    name: str
    title: str
    open: Loads
    open_precise: Loads | None = None
    open_integer: Loads | None = None
    packages: tuple[str, ...] = ()
    extra: str | None = None
    dialect: Dialect = Dialect()
    versions: tuple[str, ...] = ()
    grids: GridRules = GridRules()
    containers: tuple[int, ...] = ()
    images: int | None = None
    cost: str = ""
    file_title: str = "ONNX file"
    file_size: Loads | None = None
    timed: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", self.name):
            raise StudyError(f"target '{self.name}': its name must be letters and digits")

    @property
    def missing(self) -> str | None:
        """What to do where a package of it is not installed, in one line; None where none lacks."""
        lacking = [name for name in self.packages if not _is_installed(name)]
        if not lacking:
            return None
        what = " ".join(lacking) if self.extra is None else f"'bitladder[{self.extra}]'"
        return f"{self.title} is not installed: pip install {what}"

    def label(self, version: str | None) -> str:
        """What results call it: the name, with the version if one is asked for."""
        return self.name if version is None else f"{self.name}_{version}"


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def loaded(function: Loads) -> Callable[..., Any]:
    """The function, imported if it is named."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
