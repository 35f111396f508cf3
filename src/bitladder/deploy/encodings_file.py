"""Encodings of a network's tensors from and to AIMET's JSON, in each of its versions."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np

from bitladder.deploy.encodings import Encoding
from bitladder.errors import ExportError
from bitladder.outside import LARGEST_TABLE, parse_json, read_text

_DTYPE = re.compile(r"(u?)int(\d+)")
_BITS = range(2, 17)
_LISTS = ("activation_encodings", "param_encodings")  # of versions before 2.0.0
_NOT_ROUNDED = 32  # bits of biases, which targets round by themselves
UNTOLD = -1
"""Axis of the channels in versions before 2.0.0, which do not say it: the operator's own."""


def dump_encodings(grids: Mapping[str, Encoding], parameters: Collection[str], version: str) -> str:
    """Encodings as AIMET's JSON.

    Args:
        grids: by the names of the float file's tensors.
        parameters: which of them are constants of that file.
        version: ``0.6.1``, ``1.0.0`` or ``2.0.0``.
    """
    producer = {"package": "bitladder", "version": package_version("bitladder")}
    content: dict[str, Any] = {"producer": producer, "version": version}
    if version == "2.0.0":
        content["encodings"] = [_entry(name, grids[name]) for name in sorted(grids)]
    else:
        for key, constant in zip(_LISTS, (False, True), strict=True):
            chosen = [name for name in sorted(grids) if (name in parameters) == constant]
            if version == "1.0.0":
                content[key] = [_older_entry(name, grids[name]) for name in chosen]
            else:
                content[key] = {name: _oldest_entries(grids[name]) for name in chosen}
    return json.dumps(content, indent=1)


def _entry(name: str, grid: Encoding) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "output_dtype": f"{'' if grid.signed else 'u'}int{grid.bits}",
        "y_scale": grid.scale.astype(np.float64).tolist(),
    }
    if grid.zero_point.any():
        entry["y_zero_point"] = grid.zero_point.tolist()
    if grid.axis is not None:
        entry["axis"] = grid.axis
    return entry


def _older_entry(name: str, grid: Encoding) -> dict[str, Any]:
    """Version 1.0.0: an offset that counts from the smallest of unsigned integers."""
    return {
        "name": name,
        "dtype": "INT",
        "bw": grid.bits,
        "is_sym": _is_symmetric(grid),
        "enc_type": "PER_TENSOR" if grid.axis is None else "PER_CHANNEL",
        "scale": np.atleast_1d(grid.scale).astype(np.float64).tolist(),
        "offset": _offsets(grid),
    }


def _oldest_entries(grid: Encoding) -> list[dict[str, Any]]:
    """Version 0.6.1: an entry a channel, with the ends of the range."""
    steps = (1 << grid.bits) - 1
    scales = np.atleast_1d(grid.scale).astype(np.float64).tolist()
    return [
        {
            "bitwidth": grid.bits,
            "dtype": "int",
            "is_symmetric": str(_is_symmetric(grid)),
            "max": scale * (offset + steps),
            "min": scale * offset,
            "offset": offset,
            "scale": scale,
        }
        for scale, offset in zip(scales, _offsets(grid), strict=True)
    ]


def _is_symmetric(grid: Encoding) -> bool:
    return bool(grid.signed and not grid.zero_point.any())


def _offsets(grid: Encoding) -> list[int]:
    lowest = -(1 << (grid.bits - 1)) if grid.signed else 0
    found: list[int] = np.atleast_1d(lowest - grid.zero_point).tolist()
    return found


def read_encodings(path: Path) -> dict[str, Encoding]:
    """Read an encodings file, by tensor name; what it leaves in float is not among them.

    Versions before 2.0.0 do not say which axis the channels are: it is ``UNTOLD`` there.

    Raises:
        ExportError: the file cannot be read, or holds a kind of encoding that is not supported.
    """
    text = read_text(path, largest=LARGEST_TABLE, refusal=ExportError)
    return parse_encodings(text, str(path))


def parse_encodings(text: str, source: str) -> dict[str, Encoding]:
    """Parse what an encodings file holds; ``source`` names it in errors.

    Raises:
        ExportError: it is of no known version, or holds an encoding that is not supported.
    """
    try:
        content = parse_json(text, source, refusal=ExportError)
        version = content["version"]
        if version not in ("0.6.1", "1.0.0", "2.0.0"):
            raise ExportError(
                f"{source}: encodings of version {version}; versions 0.6.1, 1.0.0 and 2.0.0 are "
                "read"
            )
        lists = [content[key] for key in (("encodings",) if version == "2.0.0" else _LISTS)]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{source}: not an encodings file: {error}") from None
    try:
        entries = [entry for given in lists for entry in _named(given)]
        found = {name: _READERS[version](name, entry, source) for name, entry in entries}
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ExportError(f"{source}: an encoding is damaged: {reason}") from None
    return {name: grid for name, grid in found.items() if grid is not None}


def _named(given: Any) -> list[tuple[str, Any]]:
    """Each encoding of a list or a mapping by the name of its tensor."""
    if isinstance(given, list):
        return [(entry["name"], entry) for entry in given]
    return list(given.items())


def _read_newest(name: str, entry: Mapping[str, Any], source: str) -> Encoding | None:
    match = _DTYPE.fullmatch(str(entry.get("output_dtype")))
    if match is not None and int(match[2]) == _NOT_ROUNDED:
        return None
    if match is None or int(match[2]) not in _BITS or "block_size" in entry:
        raise _unsupported(name, entry.get("output_dtype"), source)
    scale = np.asarray(entry["y_scale"], np.float32)
    zero_point = np.asarray(entry.get("y_zero_point", np.zeros(scale.shape)), np.int64)
    return _grid(
        name,
        int(match[2]),
        signed=not match[1],
        scale=scale,
        zero_point=zero_point,
        axis=None if scale.ndim == 0 else int(entry.get("axis", 0)),
    )


def _read_older(name: str, entry: Mapping[str, Any], source: str) -> Encoding | None:
    bits, kind = int(entry["bw"]), entry.get("enc_type", "PER_TENSOR")
    if entry["dtype"] != "INT" or bits == _NOT_ROUNDED:
        return None
    if kind not in ("PER_TENSOR", "PER_CHANNEL"):
        raise _unsupported(name, kind, source)
    return _from_offsets(name, bits, entry["scale"], entry["offset"], entry["is_sym"], source)


def _read_oldest(name: str, entries: list[Mapping[str, Any]], source: str) -> Encoding | None:
    entries = [entries] if isinstance(entries, Mapping) else entries
    first = entries[0]
    bits = int(first["bitwidth"])
    if str(first.get("dtype", "int")) != "int" or bits == _NOT_ROUNDED:
        return None
    scales, offsets = ([one[key] for one in entries] for key in ("scale", "offset"))
    symmetric = str(first.get("is_symmetric")) == "True"
    return _from_offsets(name, bits, scales, offsets, symmetric, source)


def _from_offsets(
    name: str, bits: int, scales: Any, offsets: Any, symmetric: bool, source: str
) -> Encoding:
    """A grid of which offsets count from the smallest of unsigned integers."""
    if bits not in _BITS:
        raise _unsupported(name, f"int{bits}", source)
    scale, offset = np.asarray(scales, np.float32).ravel(), np.asarray(offsets, np.int64).ravel()
    middle = 1 << (bits - 1)
    signed = symmetric and bool((offset == -middle).all())
    single = scale.size == 1
    zero_point = np.zeros_like(offset) if signed else -offset
    return _grid(
        name,
        bits,
        signed=signed,
        scale=scale.reshape(()) if single else scale,
        zero_point=zero_point.reshape(()) if single and offset.size == 1 else zero_point,
        axis=None if single else UNTOLD,
    )


def _grid(
    name: str, bits: int, *, signed: bool, scale: Any, zero_point: Any, axis: int | None
) -> Encoding:
    if scale.ndim > 1 or not np.isfinite(scale).all() or not (scale > 0).all():
        raise ValueError(f"the scale of '{name}' is none")
    spread = np.broadcast_to(zero_point, scale.shape)
    return Encoding(name, bits, signed, scale, spread, axis)


def _unsupported(name: str, kind: object, source: str) -> ExportError:
    return ExportError(
        f"{source}: tensor '{name}' has an encoding of type {kind}; integers of 2 to 16 bit, per "
        "tensor or per channel, are supported"
    )


_READERS: dict[str, Any] = {"2.0.0": _read_newest, "1.0.0": _read_older, "0.6.1": _read_oldest}
