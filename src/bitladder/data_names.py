"""The data sets known by name and where their files are looked for; free of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
        folder = Path(name)
    if folder is None or not folder.is_dir():
        return None
    return sorted(_files(folder, frozenset()))


def _files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Every file and folder below a folder, through links to other folders, too."""
    real = folder.resolve()
    if real in above:  # a link to a folder that it is in
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield path  # one without files may be a class
            yield from _files(path, above | {real})
        elif path.is_file():
            yield path


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
