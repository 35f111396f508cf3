"""Where a module is and whose it is: the user's, an installed package's, or Python's own."""

from __future__ import annotations

import contextlib
import importlib
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    BuiltinImporter,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
)
from pathlib import Path
from typing import Any, Literal

from bitladder import aimet_names

Owner = Literal["user", "installed", "python", "bitladder"]
_INSTALLED = {"site-packages", "dist-packages"}
# They count by their versions, also where a clone of one is on the path: what they have compiled
# cannot be loaded twice.
_NEVER_OWN = {
    *("torch", "torchvision", "lightning", aimet_names.PACKAGE, "numpy", "scipy", "pandas", "PIL"),
    *("onnx", "onnx_ir", "onnxscript", "onnxruntime", "onnxruntime_qnn", "safetensors"),
}
_PYTHON = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_added: list[str] = []


def is_never_own(name: str) -> bool:
    """Whether a module is of bitladder or of a package that it computes with."""
    top = name.partition(".")[0]
    return top == "bitladder" or top in _NEVER_OWN


@dataclass(frozen=True)
class Module:
    """A module that was found, not imported.

    Attributes:
        name: its whole name.
        owner: whose it is.
        path: its file, or None of a package without ``__init__`` and of what has no file.
        package: it may have modules below it.
        inside: the folders of these.
    """

    name: str
    owner: Owner
    path: Path | None = None
    package: bool = False
    inside: tuple[str, ...] = ()

    @property
    def compiled(self) -> bool:
        """Its file is no source."""
        return self.path is not None and self.path.name.endswith((*EXTENSION_SUFFIXES, ".pyc"))


def search_here() -> str:
    """Have modules be found in the current folder first, as with ``python -m``; its path.

    A folder that was added before and is not the current one any more is taken out again.
    """
    here = str(Path.cwd())
    for other in [added for added in _added if added != here]:
        _added.remove(other)
        with contextlib.suppress(ValueError):
            sys.path.remove(other)
    if here not in sys.path[:1]:
        if here in _added:
            with contextlib.suppress(ValueError):
                sys.path.remove(here)
        else:
            _added.append(here)
        sys.path.insert(0, here)
    return here


class Finder:
    """Finds modules by name, each once.

    Args:
        here: the folder that is searched before Python's path.
    """

    def __init__(self, here: str) -> None:
        importlib.invalidate_caches()  # a file may be younger than its folder's listing
        self.path = [here, *(entry or here for entry in sys.path if entry != here)]
        self._found: dict[str, Module | None] = {}

    def find(self, name: str) -> Module | None:
        """The module of that name, or None where there is none."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Module | None:
        top, _, below = name.partition(".")
        if top == "bitladder":
            return Module(name, "bitladder")
        if top == "__main__":
            file = getattr(sys.modules.get(top), "__file__", None)
            return None if below or not file else Module(name, "user", Path(file))
        parent, _, _ = name.rpartition(".")
        path: Sequence[str] = self.path
        if parent:
            within = self.find(parent)
            if within is None or within.owner != "user":
                return within and Module(name, within.owner)
            if not within.package:
                return None
            path = within.inside
        elif name in sys.builtin_module_names or _is_frozen(name):
            return Module(name, "python")
        spec = _spec(name, path)
        if spec is None and parent:  # Python asks for its parent to be imported first
            folders = [folder / name.rpartition(".")[2] for folder in map(Path, path)]
            folders = [folder for folder in folders if folder.is_dir()]
            if folders:
                return Module(name, "user", None, True, tuple(map(str, folders)))
        if spec is None:
            return Module(name, "python") if name in sys.stdlib_module_names else None
        inside = tuple(spec.submodule_search_locations or ())
        package = spec.submodule_search_locations is not None
        file = Path(spec.origin) if spec.origin and spec.has_location else None
        owner = "installed" if top in _NEVER_OWN else whose(file or Path(*inside[:1]))
        return Module(name, owner, file, package, inside)


def _is_frozen(name: str) -> bool:
    return name in sys.stdlib_module_names and FrozenImporter.find_spec(name) is not None


def _spec(name: str, path: Sequence[str]) -> ModuleSpec | None:
    with contextlib.suppress(KeyError, ImportError, ValueError):
        spec = PathFinder.find_spec(name, list(path))
        if spec is not None:
            return spec
    for finder in sys.meta_path:  # such as that of an editable installation
        find: Any = getattr(finder, "find_spec", None)
        if finder in (BuiltinImporter, FrozenImporter, PathFinder) or find is None:
            continue
        if getattr(finder, "ours", False):
            continue
        with contextlib.suppress(Exception):  # it is not our code
            found: ModuleSpec | None = find(name, None if "." not in name else list(path))
            if found is not None:
                return found
    return None


def whose(path: Path) -> Owner:
    """Whose a file is, by the folder that it is in."""
    if _INSTALLED & set(path.parts):
        return "installed"
    return "python" if any(path.is_relative_to(folder) for folder in _PYTHON) else "user"
