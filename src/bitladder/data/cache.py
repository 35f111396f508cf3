"""Decoded images on disk, each array keyed by the content that it was made of.

An array is written aside and moved in whole, and its hash is compared before it is used. Several
processes may make and read one at once. Nothing breaks where the folder cannot be written.
What nobody used for 30 days is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.data_names import decoded_folder
from bitladder.errors import DataError
from bitladder.files import written_aside
from bitladder.outside import LARGEST_IMAGE, check_file

_ABOUT, _PIXELS = "about.json", "pixels"
_KEPT_DAYS = 30  # after its last use
_SETTLED = 2.0  # seconds after which a file's times tell any further change of it

Array = NDArray[Any]


def key(*determines: object) -> str:
    """SHA-256 in hex of all that an array follows from."""
    return hashlib.sha256(repr(determines).encode("utf-8", "surrogateescape")).hexdigest()


def find(name: str) -> tuple[dict[str, Any], Array] | None:
    """The facts and the array, mapped, that are kept under a key.

    None where there is nothing, or where it is damaged; that is removed.
    """
    folder = decoded_folder() / name
    try:
        about = _facts(folder / _ABOUT)
        with (folder / _PIXELS).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != about["sha256"]:
                raise ValueError("the array is damaged")
        # Copied where it is written to, which nobody does; torch warns of read-only arrays.
        pixels = np.memmap(
            folder / _PIXELS, np.dtype(about["dtype"]), "c", shape=tuple(about["shape"])
        )
        os.utime(folder)  # used today
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return about["facts"], pixels


def keep(
    name: str,
    facts: Mapping[str, Any],
    blocks: Iterable[Array],
    shape: tuple[int, ...],
    dtype: str,
) -> bool:
    """Keep an array and facts on it under a key; False where that cannot be written.

    Args:
        name: the key.
        facts: JSON values; they may be completed while ``blocks`` is iterated over.
        blocks: parts of the array along its first axis, in order.
        shape: of the whole array.
        dtype: of the array.
    """
    root = decoded_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        aside = Path(tempfile.mkdtemp(prefix=f".{name[:16]}.", suffix=".part", dir=root))
    except OSError:
        return False
    try:
        digest = _write(aside / _PIXELS, blocks)
        _put(aside / _ABOUT, {"facts": facts, "shape": shape, "dtype": dtype, "sha256": digest})
        aside.rename(root / name)
    except _DiskError:
        return False
    except OSError:
        return (root / name / _ABOUT).exists()  # another process was first
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def recall(name: str) -> dict[str, Any] | None:
    """Facts without an array, or None where none are kept under this key."""
    try:
        path = decoded_folder() / f"{name}.json"
        facts = _facts(path)
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts


def remember(name: str, facts: Mapping[str, Any]) -> None:
    """Keep facts without an array; where that cannot be written, they are found again."""
    path = decoded_folder() / f"{name}.json"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            _put(aside, facts)


def _put(path: Path, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(f"{digest}\n{text}", encoding="utf-8")


def _facts(path: Path) -> dict[str, Any]:
    digest, _, text = path.read_text(encoding="utf-8").partition("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError(f"{path} is damaged")
    facts: dict[str, Any] = json.loads(text)
    return facts


def _sweep(root: Path) -> None:
    """Remove what a process that was ended left, and what nobody used for a month."""
    now = time.time()
    for path in root.iterdir():
        with suppress(OSError):
            days = (now - path.lstat().st_mtime) / 86400
            if days > (1 if path.suffix == ".part" else _KEPT_DAYS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class _DiskError(Exception):
    """The array cannot be written; errors of what makes it pass through."""


def _write(path: Path, blocks: Iterable[Array]) -> str:
    found = hashlib.sha256()
    try:
        with path.open("xb") as file:
            for block in blocks:
                content = np.ascontiguousarray(block).data
                found.update(content)
                # Written and not mapped: a full disk is an error here and a crash there.
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _DiskError from error
    return found.hexdigest()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Wait until no other process of this machine makes what is kept under a key."""
    lock = None
    with suppress(OSError, ImportError):
        import fcntl  # not of every system: there, each process makes its own and one is kept

        decoded_folder().mkdir(parents=True, exist_ok=True)
        lock = (decoded_folder() / f".{name[:16]}.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def digests(paths: list[Path]) -> list[str | Exception]:
    """SHA-256 in hex of the bytes of each file, or why it cannot be read.

    A file is read again only where its size or one of its times has changed.
    """
    name = f"files-{key(*map(str, paths))[:32]}"
    known: dict[str, list[Any]] = recall(name) or {}
    found: dict[str, list[Any]] = {}
    result: list[str | Exception] = []
    now = time.time()
    for path in paths:
        try:
            stamp = _stamp(path)
            before = known.get(str(path))
            if before is None or before[:-1] != stamp:
                check_file(path, largest=LARGEST_IMAGE, refusal=DataError)
                with path.open("rb") as file:
                    before = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
        except (OSError, DataError) as error:
            result.append(error)
            continue
        result.append(before[-1])
        if now - max(stamp[1], stamp[2]) / 1e9 > _SETTLED:
            found[str(path)] = before
    if found != known:
        remember(name, found)
    return result


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
