"""Which function reads which operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bitladder.models.onnx_file.builder import Builder, Call, Value

Reader: TypeAlias = Callable[[Builder, Call], Value | Sequence[Value]]

READERS: dict[str, Reader] = {}


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register the reader of operators; a name that is there already is an error of ours."""

    def keep(reader: Reader) -> Reader:
        for name in names:
            assert name not in READERS, f"{name} is read twice"
            READERS[name] = reader
        return reader

    return keep
