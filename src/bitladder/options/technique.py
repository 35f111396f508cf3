"""What every technique's options are, and all techniques by name: a class is known once defined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from bitladder.errors import StudyError, unknown
from bitladder.options.base import Options
from bitladder.options.precision import Precision
from bitladder.user_code import import_function, is_import_path, one_line

Phase = Literal["float", "simulate", "simulated"]
_OWN: dict[str, type[Technique]] = {}
_OTHERS: dict[str, type[Technique]] = {}
TECHNIQUES: Mapping[str, type[Technique]] = MappingProxyType(_OWN)
"""The techniques that are part of bitladder, by name; one of a user's is found by ``find``."""


class Technique(Options):
    """One step of a recipe.

    Defining a subclass with a ``phase`` registers it. The function that applies it is found by
    ``bitladder.techniques.register``.
    """

    name: ClassVar[str]
    """What recipes and tables call it; by default ``package.module:Class``."""
    phase: ClassVar[Phase]
    """``float`` before simulation, ``simulate`` begins it, ``simulated`` needs it."""
    trains: ClassVar[bool] = False
    """Whether it needs labelled images and a training loop."""
    after: ClassVar[str | None] = None
    """A technique that has to stand before it, or None."""
    not_after: ClassVar[tuple[str, ...]] = ()
    """Techniques whose work it would undo or come too late for."""
    before_training: ClassVar[bool] = False
    """Whether it comes too late after any technique that trains."""
    folds: ClassVar[bool] = False
    """Whether it folds batch norms, as one technique of a recipe has to."""
    folded: ClassVar[bool] = False
    """Whether batch norms have to be folded before it."""
    checked: ClassVar[bool] = False
    """Whether its work is undone unless the outputs come nearer to float on held-out images."""

    def suits(self, precision: Precision) -> bool:
        """Whether it is applied at a precision; by default at every one."""
        return True

    @classmethod
    def __pydantic_init_subclass__(cls, **settings: Any) -> None:
        """Register a technique.

        Raises:
            StudyError: it has the name of one of bitladder's, or a phase that there is not.
        """
        super().__pydantic_init_subclass__(**settings)
        if "name" not in cls.__dict__:
            cls.name = import_path(cls)
        if not hasattr(cls, "phase"):
            return  # a base of others
        if cls.phase not in get_args(Phase):
            raise StudyError(unknown("phase", cls.phase, get_args(Phase), where=cls.name))
        own = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        if cls.name in _OWN:
            raise StudyError(f"technique '{cls.name}' is bitladder's; give {cls} another name")
        (_OWN if own else _OTHERS)[cls.name] = cls


def import_path(technique: type[Technique]) -> str:
    """``package.module:Class`` of a technique."""
    return f"{technique.__module__}:{technique.__qualname__}"


def reference(technique: type[Technique]) -> str:
    """What a file calls a technique, so that another process finds it.

    That is the name of one of bitladder's, else the import path, where it can be imported.
    """
    path = import_path(technique)
    own = _OWN.get(technique.name) is technique
    return technique.name if own or not is_import_path(path) else path


def find(name: str) -> type[Technique]:
    """The technique that has a name, or that ``package.module:Class`` names.

    A class of the user's is imported as its file is now. Its short name is enough once the class
    is defined in this process.

    Raises:
        StudyError: there is none, or what is imported is none.
    """
    found: Any = _OWN.get(name)
    if found is None and is_import_path(name):
        try:
            found = import_function(name)
        except Exception as error:  # the user's code can raise anything
            raise StudyError(f"technique '{name}': {one_line(error)}") from error
        if not isinstance(found, type) or not issubclass(found, Technique):
            raise StudyError(f"technique '{name}': it is no subclass of Technique")
        if not hasattr(found, "phase"):
            raise StudyError(f"technique '{name}': give it a phase: {', '.join(get_args(Phase))}")
    found = found or _OTHERS.get(name)
    if found is None:
        raise StudyError(unknown("technique", name, [*_OWN, *_OTHERS]))
    kind: type[Technique] = found
    return kind


@runtime_checkable
class TakesImages(Protocol):
    """A technique that looks at calibration images."""

    @property
    def images(self) -> int:
        """How many, the first of the training split."""


def calibration_count(recipe: Iterable[Technique]) -> int:
    """How many calibration images a recipe looks at: the most that one of its techniques takes."""
    return max((one.images for one in recipe if isinstance(one, TakesImages)), default=0)
