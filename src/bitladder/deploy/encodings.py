"""Encodings of tensors: grids as typed values, from quantizers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.errors import ExportError


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
