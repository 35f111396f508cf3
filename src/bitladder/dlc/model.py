"""What a .dlc file holds: graphs of nodes and tensors, encodings, static data.

The layout is that of version 4, as Netron describes it publicly, with what files written today add
to it; no library of the vendor takes part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.dlc.buffer import Fields, OffsetError
from bitladder.dlc.container import read_entries
from bitladder.errors import DlcError

_MAGIC = b"\xd5\n"
_VERSION = 4
_HEADER = 8  # bytes before a flatbuffer
_LARGEST_SETTING = 64  # values
_KINDS = {0: "input", 1: "output", 3: "native", 4: "static"}
_NUMBERS = {0x032: "i", 0x132: "I", 0x232: "f", 0x508: "B", 0x008: "b", 0x108: "B"}
DATA_TYPES: Mapping[int, tuple[str, str]] = {
    0x008: ("Int_8", "i1"), 0x016: ("Int_16", "<i2"), 0x032: ("Int_32", "<i4"),
    0x064: ("Int_64", "<i8"), 0x108: ("Uint_8", "u1"), 0x116: ("Uint_16", "<u2"),
    0x132: ("Uint_32", "<u4"), 0x164: ("Uint_64", "<u8"), 0x216: ("Float_16", "<f2"),
    0x232: ("Float_32", "<f4"), 0x304: ("sFxp_4", "i1"), 0x308: ("sFxp_8", "i1"),
    0x316: ("sFxp_16", "<i2"), 0x332: ("sFxp_32", "<i4"), 0x404: ("uFxp_4", "u1"),
    0x408: ("uFxp_8", "u1"), 0x416: ("uFxp_16", "<u2"), 0x432: ("uFxp_32", "<u4"),
    0x508: ("Bool_8", "u1"),
}  # fmt: skip
"""Name and NumPy type by the format's number; 4-bit values take a byte each."""
Attribute = float | str | list[Any]


@dataclass(frozen=True, eq=False)
class DlcEncoding:
    """``real = scale * (integer + offset)``, one pair or one a channel.

    Attributes:
        bits: width of the integers.
        scale: of each range.
        offset: of each range.
        axis: the channels' axis, or None for one range.
    """

    bits: int
    scale: tuple[float, ...]
    offset: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True, eq=False)
class DlcTensor:
    """One tensor.

    Attributes:
        name: its name.
        kind: ``input``, ``output``, ``native`` or ``static``.
        shape: its dimensions, channels last.
        data_type: such as ``uFxp_8``.
        encoding: its grid, or None where it is float or plain integers.
        data: of a static tensor, (shape), or None.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data_type: str
    encoding: DlcEncoding | None
    data: NDArray[Any] | None

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that its values take."""
        types = dict(DATA_TYPES.values())
        return self.elements * np.dtype(types.get(self.data_type, "u1")).itemsize


@dataclass(frozen=True, eq=False)
class DlcNode:
    """One operation: its name, type, tensors by name, and its settings such as ``stride``."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, eq=False)
class DlcGraph:
    """Nodes in the order of execution, tensors by name."""

    name: str
    nodes: tuple[DlcNode, ...]
    tensors: Mapping[str, DlcTensor]


@dataclass(frozen=True, eq=False)
class Dlc:
    """A file's graphs and what it says of how it was made."""

    graphs: tuple[DlcGraph, ...]
    metadata: Mapping[str, str]
    size: int


def read(path: Path) -> Dlc:
    """Read a .dlc file of version 4.

    Raises:
        DlcError: the file is not one, is damaged or cut off, or is of another version.
    """
    entries = read_entries(path)
    try:
        data = _static_data(entries, path)
        model = Fields.root(_flatbuffer(entries["model"], path))
        graphs = tuple(_graph(graph, data, path) for graph in model.tables(0))
    except (OffsetError, RecursionError, MemoryError) as error:
        raise DlcError(f"{path}: damaged: {error}") from None
    return Dlc(graphs, _metadata(entries), path.stat().st_size)


def _flatbuffer(entry: bytes, path: Path) -> bytes:
    if len(entry) < _HEADER or entry[:2] != _MAGIC:
        raise DlcError(f"{path}: not a DLC file: its model has no DLC header")
    version = int.from_bytes(entry[2:4], "little")
    if version != _VERSION:
        raise DlcError(f"{path}: DLC version {version}; version {_VERSION} can be read")
    return entry[_HEADER:]


def _static_data(entries: Mapping[str, bytes], path: Path) -> dict[str, bytes]:
    """Bytes of the static tensors and of the nodes' settings by name, out of one entry."""
    if "model.params" not in entries:
        return {}
    pool = entries.get("model.params.bin", b"")
    found = {}
    for graph in Fields.root(_flatbuffer(entries["model.params"], path)).tables(0):
        settings = (tensor for node in graph.tables(2) for tensor in node.tables(0))
        for tensor in (*graph.tables(1), *settings):
            place = tensor.table(3)
            if place is None:
                continue
            start, size = place.integer(0, "Q"), place.integer(1, "Q")
            if start + size > len(pool):
                raise OffsetError(f"the data of '{tensor.text(0)}' lie outside of the file")
            found[tensor.text(0)] = pool[start : start + size]
    return found


def _graph(graph: Fields, data: Mapping[str, bytes], path: Path) -> DlcGraph:
    tensors = (_tensor(tensor, data) for tensor in graph.tables(2))
    nodes = tuple(
        DlcNode(
            name=node.text(0),
            type=node.text(1),
            inputs=node.texts(2),
            outputs=node.texts(3),
            attributes=dict(_attributes(node, data)),
        )
        for node in graph.tables(1)
    )
    return DlcGraph(graph.text(0), nodes, {tensor.name: tensor for tensor in tensors})


def _attributes(node: Fields, data: Mapping[str, bytes]) -> list[tuple[str, Attribute]]:
    found: list[tuple[str, Attribute]] = []
    for attribute in node.tables(4):
        value, table = attribute.table(3), attribute.table(4)
        if value is None:
            values = None if table is None else _tensor(table, data).data
            if values is not None and values.size <= _LARGEST_SETTING:
                found.append((attribute.text(0), values.tolist()))
            continue
        kind = value.integer(0)
        if kind == 0x608:
            found.append((attribute.text(0), value.text(3)))
        elif kind == 0x232:
            found.append((attribute.text(0), value.number(2, "d")))
        else:
            found.append((attribute.text(0), value.integer(1, _NUMBERS.get(kind, "i"))))
    return found


def _tensor(tensor: Fields, data: Mapping[str, bytes]) -> DlcTensor:
    name, shape = tensor.text(1), tensor.integers(3)
    number = tensor.integer(6)
    label, dtype = DATA_TYPES.get(number, (f"0x{number:03x}", "u1"))
    values = None
    if name in data:
        flat = np.frombuffer(data[name], dtype)
        if flat.size != math.prod(shape):
            raise OffsetError(f"'{name}' has {flat.size} values and the shape {shape}")
        values = flat.reshape(shape)
    encoding = _encoding(tensor.table(5))
    if values is not None and encoding is not None and encoding.bits == 4 and dtype == "i1":
        values = ((values & 0xF) ^ 8) - 8  # the low nibble of a byte
    return DlcTensor(
        name=name,
        kind=_KINDS.get(tensor.integer(2), str(tensor.integer(2))),
        shape=shape,
        data_type=label,
        encoding=encoding,
        data=values,
    )


def _encoding(info: Fields | None) -> DlcEncoding | None:
    if info is None:
        return None
    whole, channels = info.table(2), info.table(3)
    if channels is not None:
        pairs = channels.tables(1)
        if pairs:
            axis: int | None = channels.integer(0)
            return _pairs(pairs, axis)
    return None if whole is None else _pairs((whole,), None)


def _pairs(pairs: tuple[Fields, ...], axis: int | None) -> DlcEncoding:
    return DlcEncoding(
        bits=pairs[0].integer(0),
        scale=tuple(pair.number(3, "f") for pair in pairs),
        offset=tuple(pair.integer(4) for pair in pairs),
        axis=axis,
    )


def _metadata(entries: Mapping[str, bytes]) -> dict[str, str]:
    """What the metadata entries say; formats differ, so whatever cannot be read is left."""
    found: dict[str, str] = {}
    for name in sorted(entries):
        if not name.startswith("dlc.metadata"):
            continue
        try:
            content = json.loads(entries[name])
        except (ValueError, RecursionError):
            lines = entries[name].decode("utf-8", errors="replace").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line)
            found |= {key: value for key, _, value in pairs}
            continue
        steps = content.get("dlcGenerationInfo") if isinstance(content, dict) else None
        for step in steps if isinstance(steps, list) else ():
            found |= _command(step)
    return found


def _command(step: Any) -> dict[str, str]:
    """One step of how a file was made: the tool, its version and its arguments."""
    command = step.get("converterCommand") if isinstance(step, dict) else None
    if not isinstance(command, dict):
        return {}
    arguments = command.get("args")
    pairs = arguments.items() if isinstance(arguments, dict) else ()
    line = " ".join([str(command.get("tool")), *(f"{key}={value}" for key, value in pairs)])
    return {
        "converter command": line,
        "converter version": str(command.get("converterVersion")),
        "converted at": str(command.get("timestamp")),
    }
