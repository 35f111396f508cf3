"""LiteRT's own flatbuffers schema, which ``ai-edge-litert`` ships; loaded when it is needed."""

from __future__ import annotations

import functools
from typing import Any

from bitladder.errors import ExportError

MISSING = "LiteRT is not installed; run: pip install 'bitladder[litert]'"


@functools.cache
def schema() -> Any:
    """The module of the schema's classes.

    Raises:
        ExportError: ``ai-edge-litert`` is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise ExportError(MISSING) from None
    return schema_py_generated
