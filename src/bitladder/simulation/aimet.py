"""The one door to AIMET: imported where it is used (it takes seconds) and kept from logging."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType

from bitladder.isolation import hush


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of AIMET's own code, and of what it traces with, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def aimet(module: str) -> ModuleType:
    """Import ``aimet_torch.<module>`` with AIMET's log at errors only, while we use it."""
    with quiet():
        logger = importlib.import_module("aimet_torch.common.utils").AimetLogger
        imported = importlib.import_module(f"aimet_torch.{module}")
    hush(*(area.value for area in logger.LogAreas))
    return imported
