"""What a function of the user's consists of: its module's source and all that this imports."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bitladder.user_code.find import Finder, Module, search_here
from bitladder.user_code.installed import installed_files, installed_version
from bitladder.user_code.scan import Import, Scan, scan

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_import_path(value: str) -> bool:
    """Whether a text has the form ``package.module:function``."""
    return _IMPORT_PATH.fullmatch(value) is not None


@dataclass(frozen=True)
class Source:
    """All that can be seen of a function without running it.

    Attributes:
        function: ``package.module:function``.
        modules: SHA-256 in hex of the file of every module of the user's, by name.
        others: of what else it depends on: versions, files that it reads, environment variables.
        unseen: what it depends on that cannot be seen, a line each.
    """

    function: str
    modules: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all of it; the folders in which it was found are no part of it."""
        content = json.dumps([self.function, self.modules, self.others], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def read_source(function: str) -> Source:
    """Read what ``package.module:function`` consists of, without importing anything.

    Modules of the current folder and of every other folder of the user's are followed to the
    last import; of an installed package the version counts.
    """
    module, _, name = function.partition(":")
    reading = _Reading(Finder(search_here()))
    reading.follow(Import(module, 0), "")
    reading.look_for(module, name)
    return Source(function, reading.modules, reading.others, tuple(reading.unseen))


@dataclass
class _Reading:
    finder: Finder
    modules: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    scans: dict[str, Scan] = field(default_factory=dict)

    def follow(self, first: Import, place: str) -> None:
        """Read a module and everything that it imports."""
        waiting = [(first, place, False)]
        while waiting:
            wanted, where, searches = waiting.pop()
            for found in self._found(wanted, where, searches):
                path = str(found.path)
                for one in self.scans[found.name].imports:
                    at = f"{Path(path).name}, line {one.line}"
                    waiting.append((one, at, self.scans[found.name].searches))

    def look_for(self, module: str, name: str) -> None:
        """See that a module's text defines a name."""
        found = self.finder.find(module)
        if found is None or found.owner != "user":
            if found is not None and found.owner == "installed":
                self.others[f"files of {module}"] = installed_files(self.finder, module)
            return
        if module == "__main__":
            self.unseen.append("__main__: the program that runs cannot be loaded again")
        seen = self.scans.get(module)
        if seen is not None and name not in seen.names:
            stars = [one for one in seen.imports if one.star]
            if not stars:
                self.unseen.append(f"{module}: '{name}' is made at runtime")

    def _found(self, wanted: Import, where: str, searches: bool) -> Iterator[Module]:
        """The modules that an import loads and that were not read before: its parents, too."""
        parts = wanted.name.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if name in self.modules:
                continue
            found = self.finder.find(name)
            if found is None:
                if not (wanted.maybe and length == len(parts)):
                    self._missing(name, wanted, where, searches)
                return
            if found.owner == "installed":
                package = f"package {parts[0]}"
                if package not in self.others:
                    self.others[package] = installed_version(parts[0])
            if found.owner != "user":
                return
            if self._read(found):
                yield found
        if wanted.star:
            yield from self._starred(wanted, where)

    def _starred(self, wanted: Import, where: str) -> Iterator[Module]:
        """Modules of a package that ``from package import *`` loads by its ``__all__``."""
        for name in self.scans.get(wanted.name, Scan()).exported:
            below = Import(f"{wanted.name}.{name}", wanted.line, maybe=True)
            yield from self._found(below, where, False)

    def _missing(self, name: str, wanted: Import, where: str, searches: bool) -> None:
        self.others[f"module {name}"] = "not found"
        if name in sys.modules:
            self.unseen.append(f"{name}: it is made at runtime")
        elif not wanted.guarded or searches:
            self.unseen.append(f"{where + ': ' if where else ''}there is no module '{name}' to see")

    def _read(self, found: Module) -> bool:
        """Take a module in; whether there is source to look into."""
        self.modules[found.name] = ""
        if found.path is None:
            return False
        try:
            content = found.path.read_bytes()
        except OSError as error:
            self.unseen.append(f"{found.path}: cannot be read: {error.strerror}")
            return False
        self.modules[found.name] = _hash(content)
        if found.compiled:
            self.unseen.append(f"{found.path.name}: it is compiled")
            return False
        try:
            seen = scan(content, found.name, str(found.path), found.package)
        except (SyntaxError, ValueError):  # importing it says what is wrong
            return False
        except RecursionError:
            self.unseen.append(f"{found.path.name}: it is nested too deeply to be read")
            return False
        self.scans[found.name] = seen
        self._take(seen, found.path)
        return True

    def _take(self, seen: Scan, module: Path) -> None:
        for name in seen.variables:
            self.others[f"environment {name}"] = os.environ.get(name, "not set")
        for name in seen.files:
            path = Path(name).expanduser()
            if path.is_relative_to(module.parent):  # the folder may be another on another machine
                name = path.relative_to(module.parent).as_posix()
            self.others[f"file {name} of {module.name}"] = _content(path)
        for line, text in (*seen.hidden, *seen.unread):
            self.unseen.append(f"{module.name}, line {line}: it {text}")


def _content(path: Path) -> str:
    try:
        return _hash(path.read_bytes())
    except OSError:
        return "not found"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
