"""Files that come from outside: the one door through which their bytes, text, YAML and JSON enter.

What waits for ever when it is opened (a pipe, a device) is refused before it is opened; what is too
large, too deep or too long is refused before memory is taken for it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bitladder.errors import BitladderError, ModelError, StudyError

LARGEST_TEXT = 1 << 20
"""Bytes of a study or of another text that a person writes."""
LARGEST_TABLE = 256 << 20
"""Bytes of JSON that a program writes, such as encodings."""
LARGEST_IMAGE = 1 << 30
"""Bytes of an image file."""
LARGEST_MODEL = 4 << 30
"""Bytes of a network's file: of ONNX, LiteRT or a DLC."""
LARGEST_WEIGHTS = 64 << 30
"""Bytes of a file of weights, which may hold an optimizer's state too."""
_DEEPEST = 50  # levels of a YAML file
_MOST_PARTS = 100_000  # keys and values of a YAML file, aliases written out
_LONGEST_NUMBER = 40  # characters of an integer: 128 bits have 39 digits
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_file(
    path: str | Path, *, largest: int = LARGEST_MODEL, refusal: type[BitladderError] = StudyError
) -> None:
    """See that a path is that of a regular file of a size that can be read, and open nothing.

    For libraries that open files themselves; ``read_bytes`` is for all else.

    Args:
        path: of the file.
        largest: bytes that it may have.
        refusal: the error that is raised.

    Raises:
        StudyError: it is not there, of another kind, not readable or too large (or ``refusal``).
    """
    try:
        _check(path, Path(path).stat(), largest, refusal)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        raise refusal(f"{_shown(path)}: cannot read this file: {_reason(error)}") from None


def read_bytes(
    path: str | Path, *, largest: int = LARGEST_MODEL, refusal: type[BitladderError] = StudyError
) -> bytes:
    """The content of a regular file of a size that can be read.

    Args:
        path: of the file.
        largest: bytes that it may have.
        refusal: the error that is raised.

    Raises:
        StudyError: it is not there, of another kind, not readable or too large (or ``refusal``).
    """
    try:
        # Opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            _check(path, found, largest, refusal)
            content = file.read(found.st_size + 1)
    except (OSError, ValueError) as error:
        raise refusal(f"{_shown(path)}: cannot read this file: {_reason(error)}") from None
    if len(content) > found.st_size:
        raise refusal(f"{_shown(path)}: cannot read this file: it grows while it is read")
    return content


def read_text(
    path: str | Path, *, largest: int = LARGEST_TEXT, refusal: type[BitladderError] = StudyError
) -> str:
    """The content of a file in UTF-8, with or without a byte-order mark.

    Raises:
        StudyError: it cannot be read, or is no text (or ``refusal``).
    """
    content = read_bytes(path, largest=largest, refusal=refusal)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(
            f"{_shown(path)}: cannot read this file: it is no text in UTF-8: byte {error.start} "
            f"is {content[error.start]:#x}"
        ) from None


def read_onnx(
    path: str | Path, *, external: bool = True, refusal: type[BitladderError] = ModelError
) -> Any:
    """The ``ModelProto`` of an ONNX file.

    Args:
        path: of the file.
        external: read the tensors that lie in files beside it, too.
        refusal: the error that is raised.

    Raises:
        ModelError: it cannot be read, or is no ONNX file (or ``refusal``).
    """
    import onnx

    check_file(path, refusal=refusal)
    try:
        return onnx.load(path, load_external_data=external)
    except Exception as error:  # protobuf raises its own, and OSError
        raise refusal(f"{_shown(path)}: not an ONNX file: {_reason(error)}") from None


def parse_json(text: str, where: str, *, refusal: type[BitladderError] = StudyError) -> Any:
    """The value that a text of JSON stands for.

    Args:
        text: to read.
        where: it comes from, as errors say it.
        refusal: the error that is raised.

    Raises:
        StudyError: it is no JSON, too deep, or has an integer without an end (or ``refusal``).
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise refusal(f"{where}: not valid JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise refusal(f"{where}: not valid JSON: {_reason(error)}") from None


def parse_yaml(text: str, where: str, *, refusal: type[BitladderError] = StudyError) -> Any:
    """The value that a text of YAML stands for: plain values, lists and mappings.

    Keys that are there twice, and what is nested more than 50 deep, has more than 100,000 parts
    (aliases written out) or integers of more than 40 digits, are refused with their line.

    Args:
        text: to read.
        where: it comes from, as errors say it.
        refusal: the error that is raised.

    Raises:
        StudyError: it is no YAML, or one of these (or ``refusal``).
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except _RefusedError as error:
        raise refusal(f"{where}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f"line {mark.line + 1}: "
        what = error.problem or error.context
        raise refusal(f"{where}: not valid YAML: {line}{_reason(ValueError(what))}") from None
    except Exception as error:  # dates, binary texts and numbers that are none raise what they like
        raise refusal(f"{where}: not valid YAML: {_reason(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def line_of(text: str, place: Sequence[int | str]) -> int | None:
    """The line, from 1, in which a text of YAML gives a key, or None where it does not.

    Args:
        text: that ``parse_yaml`` has read.
        place: keys, and numbers in lists from 0, from the outermost; a deeper one may lack.
    """
    node, line = yaml.compose(text, yaml.SafeLoader), None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(one, one) for one in node.value[part : part + 1]]
        else:
            break  # one value in place of a list
        if not found:
            break
        key, node = found[0]
        line = key.start_mark.line + 1
    return line


_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would turn line ends


class _RefusedError(Exception):
    """A text of YAML that is valid and refused."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader within bounds, which takes no key twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._parts = 0
        self._weights: dict[int, int] = {}  # parts of each node that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node and all below it; an alias counts as what it stands for."""
        alias = self.check_event(yaml.AliasEvent)
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        before, self._depth = self._parts, self._depth + 1
        if self._depth > _DEEPEST:
            raise _RefusedError(f"line {line}: nested more than {_DEEPEST} deep")
        node = super().compose_node(parent, index)
        if alias and id(node) not in self._weights:
            raise _RefusedError(f"line {line}: an alias stands for what it is a part of")
        self._parts += self._weights[id(node)] if alias else 1
        if self._parts > _MOST_PARTS:
            raise _RefusedError(f"line {line}: more than {_MOST_PARTS:,} keys and values")
        self._weights[id(node)] = self._parts - before
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping, each of whose keys is there once."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise _RefusedError(
                    f"line {line}: the key '{_cut(key.value)}' is there twice, first in line "
                    f"{lines[name]}; leave one"
                )
            lines[name] = line
        return node

    def construct_yaml_int(self, node: Any) -> int:
        """An integer of a length that somebody means."""
        if len(node.value) > _LONGEST_NUMBER:
            raise _RefusedError(
                f"line {node.start_mark.line + 1}: an integer of {len(node.value)} digits"
            )
        return int(super().construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _check(
    path: str | Path, found: os.stat_result, largest: int, refusal: type[BitladderError]
) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "of no kind that is read")
        raise refusal(f"{_shown(path)}: cannot read this file: it is {kind}; give a file")
    if found.st_size > largest:
        raise refusal(_too_large(path, found.st_size, largest))


def _too_large(path: str | Path, size: int, largest: int) -> str:
    return f"{_shown(path)}: has {size:,} bytes; files of at most {largest:,} are read here"


def _shown(path: str | Path) -> str:
    """A path as an error says it, in one line."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)[1:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _cut(" ".join(text.split()) or type(error).__name__)


def _cut(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."
