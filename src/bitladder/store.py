"""Content-addressed outputs of stages: written aside, moved in atomically, checked when read.

A stage's key names a folder; ``manifest.json`` in it holds the SHA-256 of every file. A folder
without a sound manifest is damaged: it is put aside and the stage runs again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from bitladder.errors import StoreError

_MANIFEST = "manifest.json"


def digest(value: Any) -> str:
    """SHA-256 in hex of a JSON value, the same however its keys are ordered."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Store:
    """Outputs of stages under one folder; several processes may use it at once.

    Args:
        root: the store's folder; it is made if it is not there.

    Raises:
        StoreError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for folder in ("stages", "locks", "partial"):
                (root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root}: cannot make the store here: {error.strerror}") from None

    def get(self, key: str) -> Path | None:
        """The folder of a complete and undamaged output, or None."""
        folder = self.root / "stages" / key
        try:
            manifest = json.loads((folder / _MANIFEST).read_text())
            sound = all(_hash(folder / name) == value for name, value in manifest.items())
        except (OSError, ValueError, AttributeError):
            return None
        return folder if sound else None

    def make(self, key: str, produce: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return a key's output, producing it if it is missing or damaged.

        Args:
            key: the stage's key.
            produce: writes the output's files into the empty folder that it is given.

        Returns:
            The output's folder, and whether it had to be produced.

        Raises:
            StoreError: the disk is full or the store cannot be written.
        """
        with FileLock(self.root / "locks" / f"{key}.lock"):
            folder = self.get(key)
            if folder is not None:
                return folder, False
            try:
                return self._produce(key, produce), True
            except OSError as error:
                raise StoreError(
                    f"{error.filename or self.root}: cannot write: {error.strerror or error}; "
                    "free space or choose another store, then run again to continue"
                ) from error

    def scratch(self, key: str) -> Path:
        """A folder for a stage's checkpoints, kept until its output is complete."""
        folder = self.root / "partial" / f"{key}.checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _produce(self, key: str, produce: Callable[[Path], None]) -> Path:
        aside = Path(tempfile.mkdtemp(prefix=f"{key[:16]}.", dir=self.root / "partial"))
        try:
            produce(aside)
            manifest = {
                path.relative_to(aside).as_posix(): _hash(path)
                for path in sorted(aside.rglob("*"))
                if path.is_file()
            }
            (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
            folder = self.root / "stages" / key
            if folder.exists():  # damaged, or it would have been returned
                shutil.rmtree(folder)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(self.root / "partial" / f"{key}.checkpoint", ignore_errors=True)
        return folder


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
