"""The data sets known by name, and where files are looked for and kept; free of torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

FOLDERS = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST", "kmnist": "KMNIST"}
"""Names of the sets that are found or downloaded, with torchvision's folder names."""
DATASETS = ("embedded", *FOLDERS)

EMBEDDED = Path(str(files("bitladder") / "data" / "embedded"))
"""Folder of the embedded set's MNIST-format files."""

_DEBIAN = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}


def find(name: str, root: Path | None) -> Path | None:
    """Folder that holds a named set's MNIST-format files, or None.

    Looked for in ``root``, ``$BITLADDER_DATA``, ``./data``, ``~/data``,
    ``~/.cache/bitladder/data`` and where Debian's packages put them.
    """
    for base in search_path(root):
        for folder in (base / FOLDERS[name] / "raw", base / FOLDERS[name]):
            if any(folder.glob("*-idx3-ubyte*")):
                return folder
    debian = _DEBIAN.get(name)
    return debian if debian is not None and debian.is_dir() else None


def sources(name: str, root: Path | None) -> list[Path] | None:
    """The files that a data set is read from, and the folders below its own.

    None where they are still to be downloaded, or where a function of the user's makes it.
    """
    if name == "embedded":
        folder: Path | None = EMBEDDED
    elif name in FOLDERS:
        folder = find(name, root)
    else:
        folder = folder_of(name)
    try:
        if folder is None or not folder.is_dir():
            return None
    except OSError:  # whoever loads it says so
        return None
    # A folder without files may be a class.
    found = files_below(folder, folders=True)
    return sorted(path for path in found if path.is_file() or path.is_dir())


def folder_of(name: str) -> Path:
    """The folder that a data set's name may be, ``~`` being the user's home."""
    # Path.expanduser raises for an unknown user.
    return Path(os.path.expanduser(name))  # noqa: PTH111


def files_below(
    folder: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    failed: Callable[[OSError], None] | None = None,
    folders: bool = False,
) -> Iterator[Path]:
    """Every file below a folder, in the order of names; links are followed, each folder once.

    Args:
        folder: where to begin.
        wanted: by the name of a file or folder, whether it is looked at.
        failed: called where a folder cannot be read; by default it is passed over.
        folders: give the folders, too.
    """
    seen = set()
    for here, inner, names in os.walk(folder, onerror=failed, followlinks=True):
        found = Path(here).stat()
        if (found.st_dev, found.st_ino) in seen:
            inner.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        inner[:] = sorted(filter(wanted, inner))
        if folders:
            yield from (Path(here, name) for name in inner)
        yield from (Path(here, name) for name in sorted(filter(wanted, names)))


def search_path(root: Path | None) -> Iterator[Path]:
    """The folders that are searched, in order."""
    if root is not None:
        yield root
    if "BITLADDER_DATA" in os.environ:
        yield Path(os.environ["BITLADDER_DATA"])
    yield Path("data")
    yield Path.home() / "data"
    yield download_folder()


def download_folder() -> Path:
    """Where a set that was found nowhere is downloaded to."""
    return Path.home() / ".cache" / "bitladder" / "data"


def decoded_folder() -> Path:
    """Where decoded images are kept: ``$BITLADDER_CACHE`` or ``~/.cache/bitladder``, ``decoded``.

    Whatever is in it can be deleted at any time; it is made again when it is needed.
    """
    cache = os.environ.get("BITLADDER_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "bitladder") / "decoded"
