"""What outputs mean: one file a task, behind one protocol.

Everything that speaks of loss, quality or agreement asks a task; no other room knows what a class
is. Names load their file when they are first used, so that a study is read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bitladder.errors import StudyError, unknown
from bitladder.user_code import import_function, is_import_path, one_line

if TYPE_CHECKING:
    from bitladder.tasks.scores import ScoreMeter
    from bitladder.tasks.task import Meter, Task

__all__ = ["TASKS", "Meter", "ScoreMeter", "Task", "find"]

TASKS = {
    "classification": "bitladder.tasks.classification:Classification",
    "segmentation": "bitladder.tasks.segmentation:Segmentation",
    "detection": "bitladder.tasks.detection:Detection",
    "restoration": "bitladder.tasks.restoration:Restoration",
}
"""The tasks that have a name, and the class of each."""


def find(name: str | Task) -> Task:
    """The task of that name, or the one that is given.

    Args:
        name: one of ``TASKS``, or ``package.module:Class`` of the user's, made without arguments.

    Raises:
        StudyError: nobody knows it, it cannot be imported, or it is no task.
    """
    from bitladder.tasks.task import Task

    if not isinstance(name, str):
        return _checked(name, type(name).__name__, Task)
    if name in TASKS:
        module, _, own = TASKS[name].partition(":")
        return _checked(getattr(importlib.import_module(module), own)(), name, Task)
    if not is_import_path(name):
        raise StudyError(unknown("task", name, TASKS) + ", or package.module:Class")
    try:
        made = import_function(name)()
    except Exception as error:  # the user's code can raise anything
        raise StudyError(f"task '{name}': {one_line(error)}") from error
    return _checked(made, name, Task)


def _checked(made: Any, name: str, task: Any) -> Task:
    if not isinstance(made, task):
        known = {part for part in dir(task) if not part.startswith("_")} | {"name", "quality"}
        missing = ", ".join(sorted(part for part in known if not hasattr(made, part)))
        raise StudyError(f"task '{name}': it lacks {missing or 'the methods of a task'}")
    found: Task = made
    return found


if not TYPE_CHECKING:  # which would let every name pass

    def __getattr__(name: str) -> Any:
        homes = {"Meter": "task", "Task": "task", "ScoreMeter": "scores"}
        if name in homes:
            return getattr(importlib.import_module(f"bitladder.tasks.{homes[name]}"), name)
        raise AttributeError(f"module 'bitladder.tasks' has no attribute '{name}'")
