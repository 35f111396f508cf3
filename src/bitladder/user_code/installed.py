"""What is installed: versions and files, and whether this process has loaded them so."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import sys
from pathlib import Path

from bitladder.user_code.find import Finder

_first: dict[str, str] = {}
_owners: dict[str, str] = {}


def as_loaded(what: str, found: str, module: str) -> str:
    """What is found of something installed; where other code of it is loaded already, that, too.

    A process keeps what it has loaded, also of a package that is installed anew meanwhile.

    Args:
        what: names it among all that is asked for.
        found: its version or hash now.
        module: the module that has it loaded.
    """
    first = _first.setdefault(what, found)
    if first == found or module in sys.modules:
        return found if first == found else f"{found} ({first} is loaded: start it again)"
    _first[what] = found
    return found


def installed_version(top: str) -> str:
    """Version of the distribution that an installed module is of, by its top name."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return as_loaded(f"package {top}", importlib.metadata.version(top), top)
    found = "unknown"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        owner = _owners.get(top) or _distribution_of(top)
        if owner is not None:
            found = f"{owner} {importlib.metadata.version(owner)}"
            _owners[top] = owner
    return as_loaded(f"package {top}", found, top)


def installed_files(finder: Finder, module: str) -> str:
    """SHA-256 in hex of the Python files around an installed module: those of its folder."""
    top, *below = module.split(".")
    found = finder.find(top)
    if found is None or not found.inside:
        files = [found.path] if found is not None and found.path is not None else []
    else:
        folder = Path(found.inside[0])
        for part in below:
            folder = folder / part if (folder / part).is_dir() else folder
        files = sorted(folder.rglob("*.py"))
    content = hashlib.sha256()
    for path in files:
        with contextlib.suppress(OSError):
            content.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return as_loaded(f"files of {module}", content.hexdigest(), module)


def _distribution_of(top: str) -> str | None:
    """The distribution with a module of that name: theirs may differ, as pillow's and PIL's do."""
    for entry in sys.path:
        for record in sorted(Path(entry or ".").glob("*.dist-info/RECORD")):
            with contextlib.suppress(OSError):
                text = "\n" + record.read_text(encoding="utf-8", errors="replace")
                if f"\n{top}/" in text or f"\n{top}." in text:
                    return record.parent.name.partition("-")[0]
    return None
