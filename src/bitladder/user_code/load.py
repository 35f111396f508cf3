"""Import a function of the user's, afresh where its code has changed since it was imported.

Python keeps every module that it has imported, and its bytecode by the second of the file's
change; a process that lives long would go on with code that is gone.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from bitladder.user_code.find import Finder, is_never_own, search_here, whose
from bitladder.user_code.source import Source, read_source

_lock = threading.RLock()
_folders: set[Path] = set()
_loaded: dict[str, tuple[str, str]] = {}  # by module: its file, and the hash of what was loaded


def import_function(path: str) -> Any:
    """Import what ``package.module:function`` names, as its files are now.

    The current folder is searched first, as with ``python -m``, since a console script's own
    search path leaves it out.

    Args:
        path: module and name, parted by a colon.

    Raises:
        Exception: whatever the import raises; it is the user's code.
    """
    module, _, name = path.partition(":")
    with _lock:
        source = read_source(path)
        _watch(source)
        if _is_stale(source):
            for loaded in {*_loaded, *_own(source)}:
                _forget(loaded)
        return getattr(importlib.import_module(module), name)


def differs(source: Source) -> str | None:
    """A module that this process has loaded from another file than ``source`` was read from."""
    with _lock:
        for name, content in source.modules.items():
            if name in sys.modules and _loaded.get(name, ("", content))[1] != content:
                return name
    return None


def _watch(source: Source) -> None:
    """Have the user's modules be loaded by ``_Loader``."""
    finder = Finder(search_here())
    for name in {name.partition(".")[0] for name in source.modules}:
        found = finder.find(name)
        if found is not None and found.owner == "user":
            own = [Path(folder) for folder in found.inside] or [found.path or Path()]
            _folders.update(path.parent for path in own)
    if not any(isinstance(one, _UserFinder) for one in sys.meta_path):
        before = [*sys.meta_path, PathFinder].index(PathFinder)
        sys.meta_path.insert(before, _UserFinder())


def _own(source: Source) -> list[str]:
    """Its modules that can be loaded again."""
    return [name for name in source.modules if name != "__main__"]


def _is_stale(source: Source) -> bool:
    """Whether a module of the user's was loaded from what is not in its file any more."""
    stale = any(
        name not in _loaded and getattr(sys.modules.get(name), "__file__", None)
        for name in _own(source)
    )
    finder = Finder(search_here())
    for name, (file, content) in list(_loaded.items()):
        if name in sys.modules and name in source.modules:
            found = finder.find(name)
            stale |= found is not None and str(found.path or "") != file
        stale |= name in sys.modules and file != "" and _hash(Path(file)) != content
    return stale


def _forget(name: str) -> None:
    module = sys.modules.get(name)
    file, content = _loaded.get(name, ("", ""))
    if module is None:
        _loaded.pop(name, None)
        return
    origin = getattr(module, "__file__", None) or ""
    if origin and not origin.endswith(".py"):
        if not content:
            _loaded[name] = (origin, _hash(Path(origin)))
        elif _hash(Path(file)) != content:
            raise ImportError(
                f"{origin} has changed, and a compiled module cannot be loaded again: start this "
                "process (or the workers) again"
            )
        return
    linecache.cache.pop(origin, None)
    _loaded.pop(name, None)
    del sys.modules[name]


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


class _Loader(SourceFileLoader):
    """Compiles a module's file as it is now; bytecode that was kept of it counts for nothing."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file, whose hash is kept."""
        path = self.get_filename(fullname)
        content = self.get_data(path)
        _loaded[fullname] = (path, hashlib.sha256(content).hexdigest())
        code: CodeType = self.source_to_code(content, path)
        return code


class _UserFinder:
    """Finds the user's modules, in the folders that functions were imported from."""

    ours = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As ``PathFinder`` finds it, with another loader; None of what is not the user's."""
        if is_never_own(name):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            return None
        origin = Path(spec.origin)
        # A package of someone else's may lie further below: its own folder is on the path, too.
        above = name.count(".") + (spec.submodule_search_locations is not None)
        if whose(origin) != "user" or _folders.isdisjoint(origin.parents[above : above + 1]):
            return None
        spec.loader = _Loader(name, spec.origin)
        return spec
