"""Files that appear whole or not at all, whoever else writes or reads them at that moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bitladder.errors import BitladderError, StoreError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; the file moves to its place when the block ends.

    A block that raises leaves what stood at ``path`` as it was, and nothing beside it.

    Args:
        path: the file; its folder exists.
    """
    mine = f"{os.getpid()}-{threading.get_ident()}"  # others may write the same file
    aside = path.with_name(f".{path.name}.{mine}.part")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_whole(
    path: Path, content: str | bytes, *, refusal: type[BitladderError] = StoreError
) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file; its folder exists.
        content: bytes, or text, which is written as UTF-8.
        refusal: the error that is raised where it cannot be written.

    Raises:
        StoreError: it cannot be written (or ``refusal``).
    """
    try:
        with written_aside(path) as aside:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise refusal(f"{path}: cannot write: {error.strerror}; free space there") from error
