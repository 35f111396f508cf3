"""The folder of a run's results: a mark says whose it is, and one run at a time writes to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bitladder.errors import StoreError
from bitladder.files import write_whole

MARK = ".bitladder-run"
"""File in the folder of a run that says of which study; its lock is held while a run lasts."""
_LOCK = f"{MARK}.lock"
_OF_A_STORE = ("stages", "locks", "partial", "studies")
_BEFORE_MARKS = {"study.yaml", "rungs.csv"}  # what every run has always written
_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}


@contextmanager
def claimed(output: Path, store: Path, study: str) -> Iterator[None]:
    """Have a folder for a run's results, marked as ours, while a block lasts.

    Args:
        output: the folder; it is made if it is not there.
        store: the folder of the store, which may lie in ``output``.
        study: name of the study.

    Raises:
        StoreError: the folder cannot be written, is a store, holds what no run has written, or
            another run writes to it.
    """
    _refuse_a_store(output, store)
    lock = FileLock(output / _LOCK)
    try:
        output.mkdir(parents=True, exist_ok=True)
        _refuse_what_is_not_ours(output, store)
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{output}: another run writes its results here; wait for it, or give another --output"
        ) from None
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{output}: cannot write here: {reason}") from None
    try:
        write_whole(output / MARK, json.dumps({"study": study}) + "\n")
        yield
    finally:
        lock.release()


def _refuse_a_store(output: Path, store: Path) -> None:
    """Results among a store's own folders would be collected as garbage, or hide them."""
    here, shelf = output.absolute(), store.absolute()
    if here == shelf or shelf in here.parents or all((here / one).is_dir() for one in _OF_A_STORE):
        raise StoreError(
            f"{output}: is a store of stages or lies in one; give --output a folder of its own"
        )


def _refuse_what_is_not_ours(output: Path, store: Path) -> None:
    """Refuse a folder with files in it, unless a run has written them."""
    names = {path.name for path in output.iterdir()}
    inner = store.absolute().relative_to(output.absolute()).parts if _within(store, output) else ()
    foreign = names - _BY_SYSTEMS - {_LOCK, *inner[:1]}
    if foreign and MARK not in names and not names >= _BEFORE_MARKS:
        raise StoreError(
            f"{output}: holds files that no run has written, such as '{min(foreign)}'; give "
            "--output a new or an empty folder"
        )


def _within(path: Path, folder: Path) -> bool:
    return folder.absolute() in path.absolute().parents
