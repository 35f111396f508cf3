"""Encodings of tensors: grids as typed values, from quantizers, and from and to AIMET's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.errors import ExportError
from bitladder.outside import LARGEST_TABLE, parse_json, read_text

_DTYPE = re.compile(r"(u?)int(\d+)")
_BITS = range(2, 17)


@dataclass(frozen=True, eq=False)
class Encoding:
    """The integer grid of one tensor: ``real = scale * (integer - zero_point)``.

    Attributes:
        name: of the tensor in the ONNX graph, or of the quantizer whose grid it is.
        bits: width of the integers, 2 to 16.
        signed: whether they run from ``-2^(bits-1)`` or from 0.
        scale: float32, one or one a channel, (channels,).
        zero_point: int64 of the shape of ``scale``.
        axis: the channels' axis, or None for one grid for the whole tensor.
        bottom: smallest integer that is used, or None for the smallest of the width.
        top: largest integer that is used, or None for the largest of the width.
    """

    name: str
    bits: int
    signed: bool
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int | None
    bottom: int | None = None
    top: int | None = None

    @property
    def integer_min(self) -> int:
        """Smallest integer of the grid."""
        if self.bottom is not None:
            return self.bottom
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def integer_max(self) -> int:
        """Largest integer of the grid."""
        if self.top is not None:
            return self.top
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def lowest(self) -> float:
        """Smallest real value of a grid for the whole tensor."""
        return float(self.scale * (self.integer_min - self.zero_point))

    @property
    def highest(self) -> float:
        """Largest real value of a grid for the whole tensor."""
        return float(self.scale * (self.integer_max - self.zero_point))

    @property
    def container_bits(self) -> int:
        """Width of the integer type that holds the grid: 8 or 16."""
        return 8 if self.bits <= 8 else 16

    @property
    def narrow(self) -> bool:
        """Whether the container holds integers that the grid has not."""
        return self.integer_max - self.integer_min + 1 < 1 << self.container_bits

    def within(self, low: float, high: float) -> Encoding:
        """The grid without what values from ``low`` to ``high`` never reach."""
        bottom, top = (
            int(np.clip(np.rint(np.float32(bound) / self.scale) + self.zero_point, *self._ends))
            for bound in (low, high)
        )
        return replace(self, bottom=bottom, top=top)

    @property
    def _ends(self) -> tuple[int, int]:
        return self.integer_min, self.integer_max

    def quantize(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Integers of ``values``, rounded half to even and saturated (ONNX QuantizeLinear)."""
        scale, zero_point = self.scale, self.zero_point
        if self.axis is not None:
            spread = [1] * values.ndim
            spread[self.axis] = -1
            scale, zero_point = scale.reshape(spread), zero_point.reshape(spread)
        integers = np.rint(values / scale).astype(np.int64) + zero_point
        clipped: NDArray[np.int64] = np.clip(integers, self.integer_min, self.integer_max)
        return clipped


def encoding_of(name: str, quantizer: Any) -> Encoding:
    """The grid of a quantizer of the simulation that has a range.

    Args:
        name: of the tensor or the quantizer.
        quantizer: AIMET's; one range, or one a channel along one axis.

    Raises:
        ExportError: it has ranges along several axes.
    """
    scale = quantizer.get_scale().detach().cpu().numpy().astype(np.float32)
    zero_point = -np.rint(quantizer.get_offset().detach().cpu().numpy()).astype(np.int64)
    channels = [axis for axis, length in enumerate(scale.shape) if length > 1]
    if len(channels) > 1:
        raise ExportError(f"'{name}': ranges along {len(channels)} axes; one is supported")
    shape = (-1,) if channels else ()
    return Encoding(
        name=name,
        bits=int(quantizer.bitwidth),
        signed=quantizer.qmin < 0,
        scale=scale.reshape(shape),
        zero_point=np.broadcast_to(zero_point, scale.shape).reshape(shape),
        axis=channels[0] if channels else None,
    )


def dump_encodings(grids: Mapping[str, Encoding], parameters: Collection[str], version: str) -> str:
    """Encodings as AIMET's JSON.

    Args:
        grids: by the names of the float file's tensors.
        parameters: which of them are constants of that file.
        version: ``1.0.0`` or ``2.0.0``.
    """
    producer = {"package": "bitladder", "version": package_version("bitladder")}
    if version == "2.0.0":
        entries = [_entry(name, grids[name]) for name in sorted(grids)]
        content: dict[str, Any] = {"producer": producer, "version": version, "encodings": entries}
    else:
        old = {name: _old_entry(name, grid) for name, grid in sorted(grids.items())}
        content = {
            "producer": producer,
            "version": version,
            "activation_encodings": [e for name, e in old.items() if name not in parameters],
            "param_encodings": [e for name, e in old.items() if name in parameters],
        }
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


def _old_entry(name: str, grid: Encoding) -> dict[str, Any]:
    """Version 1.0.0: an offset that counts from the smallest of unsigned integers."""
    lowest = -(1 << (grid.bits - 1)) if grid.signed else 0
    return {
        "name": name,
        "dtype": "INT",
        "bw": grid.bits,
        "is_sym": bool(grid.signed and not grid.zero_point.any()),
        "enc_type": "PER_TENSOR" if grid.axis is None else "PER_CHANNEL",
        "scale": np.atleast_1d(grid.scale).astype(np.float64).tolist(),
        "offset": np.atleast_1d(lowest - grid.zero_point).tolist(),
    }


def read_encodings(path: Path) -> dict[str, Encoding]:
    """Read an encodings file of version 2.0.0, by tensor name.

    Raises:
        ExportError: the file cannot be read, or holds a kind of encoding that is not supported.
    """
    text = read_text(path, largest=LARGEST_TABLE, refusal=ExportError)
    return parse_encodings(text, str(path))


def parse_encodings(text: str, source: str) -> dict[str, Encoding]:
    """Parse what an encodings file holds; ``source`` names it in errors.

    Raises:
        ExportError: it is not of version 2.0.0, or holds an encoding that is not supported.
    """
    try:
        content = parse_json(text, source, refusal=ExportError)
        entries = content["encodings"]
        version = content["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{source}: not an encodings file of version 2.0.0: {error}") from None
    if version != "2.0.0":
        raise ExportError(f"{source}: encodings of version {version}; export version 2.0.0")
    try:
        return {entry["name"]: _encoding(entry, source) for entry in entries}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ExportError(f"{source}: an encoding is damaged: {reason}") from None


def _encoding(entry: Mapping[str, Any], source: str) -> Encoding:
    match = _DTYPE.fullmatch(str(entry.get("output_dtype")))
    if match is None or int(match[2]) not in _BITS or "block_size" in entry:
        raise ExportError(
            f"{source}: tensor '{entry['name']}' has an encoding of type "
            f"{entry.get('output_dtype')}; integers of 2 to 16 bit, per tensor or per channel, "
            "are supported"
        )
    scale = np.asarray(entry["y_scale"], np.float32)
    zero_point = np.asarray(entry.get("y_zero_point", np.zeros(scale.shape)), np.int64)
    axis = entry.get("axis")
    return Encoding(
        name=entry["name"],
        bits=int(match[2]),
        signed=not match[1],
        scale=scale,
        zero_point=np.broadcast_to(zero_point, scale.shape),
        axis=None if scale.ndim == 0 else axis,
    )
