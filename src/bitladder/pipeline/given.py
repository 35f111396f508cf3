"""What options name that lies outside of them: files, and functions of the user's.

The options are walked whatever they are, so that one that is added later is found, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitladder.aimet_names import quantsim_configs
from bitladder.errors import ModelError, StudyError, unknown
from bitladder.models.names import is_onnx_file
from bitladder.options import Calibrate, DatasetOptions, ModelOptions, Options, Technique
from bitladder.options.technique import reference
from bitladder.outside import LARGEST_WEIGHTS, check_file
from bitladder.store import digest
from bitladder.user_code import Source, differs, is_import_path, read_source

_SUFFIXES = {
    *(".json", ".yaml", ".yml", ".toml", ".txt", ".csv"),
    *(".safetensors", ".pth", ".pt", ".ckpt", ".onnx", ".npy", ".npz", ".bin", ".dlc"),
}
_NAMES = ("name", "version", "weights_key", "augment")  # of something that is no file


@dataclass
class Given:
    """Files and functions, each read once.

    Attributes:
        files: SHA-256 in hex of the content, by path; that of a folder is of all its files.
        sources: what a function consists of, by ``package.module:function``.
    """

    files: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def of(self, options: Iterable[Options]) -> dict[str, str]:
        """Hashes of all that some options name, by ``file PATH`` and ``function MODULE:NAME``.

        Raises:
            ModelError, StudyError: a file is missing or cannot be read.
        """
        found = {}
        for one in options:
            for path in _own_class(one):
                found[f"function {path}"] = self.source(path).digest
            for place, owner, value in _walk(one, _place(one)):
                if isinstance(value, Path) or _is_file(place, owner, value):
                    found[f"file {value}"] = self._file(place, owner, Path(value))
                elif is_import_path(value) and not Path(value).is_dir():
                    found[f"function {value}"] = self.source(value).digest
        return found

    def source(self, function: str) -> Source:
        """What a function consists of."""
        if function not in self.sources:
            self.sources[function] = read_source(function)
        return self.sources[function]

    def unseen(self, options: Iterable[Options]) -> list[str]:
        """What cannot be seen of the functions that options name, a line a function.

        A data set is known by its pixels, and a version is the user's word.
        """
        lines = []
        for one in options:
            if isinstance(one, DatasetOptions) or getattr(one, "version", None) is not None:
                continue
            named = _own_class(one)
            named += [v for _, _, v in _walk(one, "") if isinstance(v, str) and is_import_path(v)]
            for value in named:
                missing = self.source(value).unseen
                if missing:
                    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                    lines.append(
                        f"'{value}': changes cannot be seen ({missing[0]}{more}); give it a "
                        "'version:' in the study, and another one when it changes"
                    )
        return lines

    def _file(self, place: str, owner: Options, path: Path) -> str:
        if str(path) not in self.files:
            try:
                self.files[str(path)] = _hash(path)
            except StudyError as error:  # it names the file
                kind = ModelError if isinstance(owner, ModelOptions) else StudyError
                raise kind(f"{place} {error}") from None
            except (OSError, ValueError) as error:
                kind = ModelError if isinstance(owner, ModelOptions) else StudyError
                reason = getattr(error, "strerror", None) or error
                raise kind(f"{place} {path}: cannot read this file: {reason}") from None
        return self.files[str(path)]


def _hash(path: Path) -> str:
    """SHA-256 in hex of a file, or of all files of a folder."""
    if path.is_dir():
        files = sorted(below for below in path.rglob("*") if below.is_file())
        return digest([(below.relative_to(path).as_posix(), _hash(below)) for below in files])
    check_file(path, largest=LARGEST_WEIGHTS)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(given: Mapping[str, str]) -> list[Source]:
    """See that the files and functions of a stage are here as its key says.

    Returns:
        What the functions consist of, for ``check_loaded``.

    Raises:
        StudyError: one is not.
    """
    now, sources = Given(), []
    for name, expected in given.items():
        what, _, value = name.partition(" ")
        if what == "function":
            source = now.source(value)
            sources.append(source)
            found = source.digest
        else:
            try:
                found = now._file("the file", Options(), Path(value))
            except StudyError as error:
                raise StudyError(f"{error}; it was there when the run began") from None
        if found != expected:
            raise StudyError(
                f"{name}: it is not what it was when the run began: it was changed meanwhile, or "
                "this worker sees another one; run again"
            )
    return sources


def check_loaded(sources: Iterable[Source]) -> None:
    """See that this process ran the very code that ``check`` read.

    Raises:
        StudyError: it ran other code.
    """
    for source in sources:
        module = differs(source)
        if module is not None:
            raise StudyError(
                f"function {source.function}: the module {module} was changed while it was "
                "loaded; run again"
            )


def _own_class(options: Options) -> list[str]:
    """The import path of a technique of the user's; nothing of all other options."""
    path = reference(type(options)) if isinstance(options, Technique) else ""
    return [path] if is_import_path(path) else []


def _place(options: Options) -> str:
    return options.name if isinstance(options, Technique) else ""


def _walk(value: Any, place: str) -> Iterator[tuple[str, Options, Any]]:
    """Every path and every free text in some options: its key, whose it is, and itself."""
    for key, description in type(value).model_fields.items():
        where = f"{place}.{key}" if place else key
        pending = [getattr(value, key)]
        while pending:
            one = pending.pop()
            if isinstance(one, Options):
                yield from _walk(one, where)
            elif isinstance(one, Mapping):
                pending += one.values()
            elif isinstance(one, list | tuple | set | frozenset):
                pending += one
            elif isinstance(one, Path) or (
                isinstance(one, str) and _is_free(description.annotation)
            ):
                yield where, value, one


def _is_free(annotation: Any) -> bool:
    """Whether a type takes any text, and not only some words."""
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return annotation in (str, Any) or any(map(_is_free, typing.get_args(annotation)))


def _is_file(place: str, owner: Options, value: str) -> bool:
    """Whether a text names a file.

    Raises:
        StudyError: it is neither a file nor a name that is known.
    """
    if isinstance(owner, ModelOptions) and is_onnx_file(value):
        return True
    if place.rpartition(".")[2] in _NAMES or is_import_path(value):
        return False
    config = isinstance(owner, Calibrate) and place.endswith("config")
    with contextlib.suppress(OSError, ValueError):
        if config and Path(value).is_dir():
            raise StudyError(f"{place} {value}: this is a folder here; give the path of a file")
        if Path(value).exists():
            return True
    if config:
        known = quantsim_configs()
        if known and value not in known:
            names = [name for name in known if not name.endswith(".json")]
            text = unknown("config", value, names, where=place)
            raise StudyError(f"{text} (and there is no such file)")
        return False
    return "/" in value or "\\" in value or Path(value).suffix.lower() in _SUFFIXES
