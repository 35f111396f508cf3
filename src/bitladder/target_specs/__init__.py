"""Every target by name: one file each, with all that is asked of a target; free of torch.

A file defines ``TARGET``. What is heavy stands in it as ``module:name`` or is imported when it is
called, so that studies are read without any runtime.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from bitladder.errors import StudyError, unknown
from bitladder.target_specs.record import Dialect, GridRules, TargetSpec
from bitladder.user_code import import_function, is_import_path, one_line

__all__ = ["Dialect", "GridRules", "TargetSpec", "find", "known"]


@functools.cache
def known() -> dict[str, TargetSpec]:
    """The targets that are part of bitladder, by name; the one that needs nothing else first."""
    files = [file.name for file in pkgutil.iter_modules(__path__) if file.name != "record"]
    modules = [importlib.import_module(f"{__name__}.{file}") for file in files]
    specs: list[TargetSpec] = [module.TARGET for module in modules]
    specs.sort(key=lambda spec: (spec.extra or "", spec.name))
    return {spec.name: spec for spec in specs}


def find(target: str | TargetSpec) -> TargetSpec:
    """The target of that name, or the one that is given.

    Args:
        target: one of ``known``, or ``package.module:NAME`` of a user's ``TargetSpec``, which is
            imported as its file is now.

    Raises:
        StudyError: nobody knows it, it cannot be imported, or it is no target.
    """
    if isinstance(target, TargetSpec):
        return target
    if target in known():
        return known()[target]
    if not is_import_path(target):
        raise StudyError(unknown("target", target, known()) + ", or package.module:NAME")
    try:
        found = import_function(target)
    except Exception as error:  # the user's code can raise anything
        raise StudyError(f"target '{target}': {one_line(error)}") from error
    if not isinstance(found, TargetSpec):
        raise StudyError(f"target '{target}': it is no TargetSpec")
    if found.name in known():
        raise StudyError(f"target '{target}': '{found.name}' is bitladder's; give it another name")
    return found
