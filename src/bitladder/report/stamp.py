"""Whether a report is that of the files beside it: a run that changed nothing draws none."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

PAGE = "report.html"
_SOURCES = (
    *("results.csv", "rungs.csv", "curves.csv", "layers.csv"),
    *("flips.csv", "flips.json", "classes.csv", "confusion.csv"),
    *("study.yaml", "environment.json"),
)
_HEAD = 2000  # characters of the page in which its stamp stands


def stamp(folder: Path) -> str:
    """SHA-256 in hex of the files that a report is made of, and of our version."""
    found = hashlib.sha256(version("bitladder").encode())
    for name in _SOURCES:
        path = folder / name
        found.update(f"\0{name}\0".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def is_current(folder: Path) -> bool:
    """Whether the page, which is written last, was made of the run's files as they are now."""
    try:
        with (folder / PAGE).open(encoding="utf-8") as file:
            return stamp(folder) in file.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        return False
