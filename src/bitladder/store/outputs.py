"""Content-addressed outputs of stages: written aside, moved in atomically, checked when read.

A stage's key names a folder; ``manifest.json`` in it holds its format and the SHA-256 of every
file. A folder without a sound manifest is damaged: it is put aside and the stage runs again.
``checked.json`` remembers size and times of the files when they were last hashed, so that what
nobody has touched is not read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bitladder.errors import StoreError
from bitladder.store.journal import Journal, Made
from bitladder.store.memory import Memory

FORMAT = 2
"""Of an output's folder. Those of bitladder 0.1 say none, which is format 1."""
_MANIFEST, _CHECKED = "manifest.json", "checked.json"
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES}
# PyTorch and safetensors do not raise an OSError.
_FULL = ("No space left", "StorageFull", "PytorchStreamWriter failed writing", "unexpected pos")


def default_root() -> Path:
    """``$BITLADDER_STORE``, or ``runs/store`` in the current folder."""
    return Path(os.environ.get("BITLADDER_STORE", "runs/store"))


class BusyError(Exception):
    """Another process makes this output at this moment."""


@dataclass(frozen=True)
class Output:
    """A stage's output in the store.

    Attributes:
        folder: where its files are.
        produced: False where the store had it already.
        damage: what was wrong with the one that had to be made again, or None.
    """

    folder: Path
    produced: bool
    damage: str | None = None


class Store:
    """Outputs of stages under one folder; several processes may use it at once.

    Args:
        root: the store's folder; it is made if it is not there.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages, self.partial = root / "stages", root / "partial"
        self.memory = Memory(root / "memory")
        self.journal = Journal(root / "journal.jsonl", root / "locks" / "journal.lock")
        try:
            for folder in ("stages", "locks", "partial", "studies"):
                (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root}: cannot make the store here: {error.strerror}") from None

    def has(self, key: str) -> bool:
        """Whether an output is there, damaged or not."""
        return (self.stages / key).exists()

    def get(self, key: str, *, thorough: bool = False) -> Path | None:
        """The folder of a complete and undamaged output, or None.

        Args:
            key: the stage's key.
            thorough: hash every file, also those that nobody has touched since they were hashed.
        """
        folder = self.stages / key
        return folder if folder.exists() and self.damage(key, thorough=thorough) is None else None

    def damage(self, key: str, *, thorough: bool = False) -> str | None:
        """What is wrong with an output that is there, or None if nothing is."""
        folder = self.stages / key
        try:
            content = dict(json.loads((folder / _MANIFEST).read_text()))
            if content.get("format", 1) != FORMAT:
                return f"it is of format {content.get('format', 1)}; this bitladder reads {FORMAT}"
            manifest = dict(content["files"])
        except (OSError, ValueError, TypeError, KeyError):
            return f"{_MANIFEST} is missing or damaged"
        try:
            stamps = {name: stamp(folder / name) for name in manifest}
            if not thorough and stamps == _read(folder / _CHECKED):
                return None
            for name, value in manifest.items():
                if _hash(folder / name) != value:
                    (folder / _CHECKED).unlink(missing_ok=True)
                    return f"{name} is damaged"
        except FileNotFoundError as error:
            return f"{Path(error.filename).relative_to(folder).as_posix()} is missing"
        except OSError as error:
            return f"{error.filename} cannot be read: {error.strerror}"
        with suppress(OSError):  # a store that cannot be written is only slower
            (folder / _CHECKED).write_text(json.dumps(stamps))
        return None

    def make(
        self,
        key: str,
        produce: Callable[[Path], None],
        *,
        kind: str = "",
        label: str = "",
        network: str = "",
        wait: bool = True,
    ) -> Output:
        """Return a key's output, producing it if it is missing or damaged.

        Args:
            key: the stage's key.
            produce: writes the output's files into the empty folder that it is given.
            kind: what the stage does, for the journal.
            label: what a person calls it, for the journal.
            network: data set and network, for the journal.
            wait: wait while another process makes the same output.

        Raises:
            BusyError: another process makes it, and ``wait`` is false.
            StoreError: the disk is full or the store cannot be written.
        """
        try:
            with FileLock(self.lock(key), timeout=-1 if wait else 0):
                return self._make(key, produce, kind, label, network)
        except Timeout:
            raise BusyError(key) from None

    def lock(self, key: str) -> Path:
        """The file that is locked while a key's output is made or removed."""
        return self.root / "locks" / f"{key}.lock"

    def is_locked(self, key: str) -> bool:
        """Whether some process makes this output at this moment."""
        try:
            with FileLock(self.lock(key), timeout=0):
                return False
        except Timeout:
            return True

    def scratch(self, key: str) -> Path:
        """A folder for a stage's checkpoints and logs, kept until its output is complete."""
        folder = self.scratch_path(key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def scratch_path(self, key: str) -> Path:
        """Where ``scratch`` is or would be."""
        return self.partial / f"{key}.checkpoint"

    def _make(
        self, key: str, produce: Callable[[Path], None], kind: str, label: str, network: str
    ) -> Output:
        folder = self.stages / key
        damage = self.damage(key) if folder.exists() else None
        if folder.exists() and damage is None:
            return Output(folder, produced=False)
        started = time.perf_counter()
        try:
            self._produce(key, produce)
            self.journal.add(Made(key, kind, label, network, time.perf_counter() - started))
        except Exception as error:
            reason = _cannot_write(error)
            if reason is None:
                raise
            raise StoreError(
                f"{getattr(error, 'filename', None) or self.root}: cannot write: {reason}; "
                "free space or choose another store, then run again to continue"
            ) from error
        return Output(folder, produced=True, damage=damage)

    def _produce(self, key: str, produce: Callable[[Path], None]) -> None:
        aside = self.partial / f"{key[:16]}.output"
        shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed
        aside.mkdir()
        try:
            produce(aside)
            files = [path for path in sorted(aside.rglob("*")) if path.is_file()]
            manifest = {path.relative_to(aside).as_posix(): _hash(path) for path in files}
            stamps = {name: stamp(aside / name) for name in manifest}
            content = {"format": FORMAT, "files": manifest}
            (aside / _MANIFEST).write_text(json.dumps(content, indent=1))
            (aside / _CHECKED).write_text(json.dumps(stamps))
            folder = self.stages / key
            if folder.is_dir():  # damaged, or it would have been returned
                shutil.rmtree(folder)
            else:
                folder.unlink(missing_ok=True)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(self.scratch_path(key), ignore_errors=True)


def stamp(path: Path) -> list[int]:
    """What changes when a file is written: its size, and when it and its entry were changed."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _cannot_write(error: Exception) -> str | None:
    """Why the disk took no more, whichever library was writing, or None."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return error.strerror
    return os.strerror(errno.ENOSPC) if any(text in str(error) for text in _FULL) else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
