"""Call a function of the user's by ``package.module:function``, the current folder included."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def import_function(path: str) -> Any:
    """Import what ``package.module:function`` names.

    The current folder is searched first, as with ``python -m``, since a console script's own
    search path leaves it out.

    Args:
        path: module and name, parted by a colon.

    Raises:
        Exception: whatever the import raises; it is the user's code.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return getattr(importlib.import_module(module), name)


def one_line(error: BaseException) -> str:
    """Type and text of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
