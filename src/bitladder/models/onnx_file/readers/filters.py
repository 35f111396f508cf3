"""Interpolation of a line of values as a matrix: linear or cubic, with or without antialiasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Filter:
    """What ONNX's Resize weighs values with.

    The cubic is that of R. Keys, "Cubic convolution interpolation for digital image processing"
    (IEEE TASSP 29(6), 1981).

    Attributes:
        cubic: the coefficient of the cubic, or None where the filter is linear.
        smooth: stretch the filter where the image shrinks (``antialias``).
        inside: leave out places outside of the image (``exclude_outside``), which otherwise have
            the value at the edge.
    """

    cubic: float | None = None
    smooth: bool = False
    inside: bool = False

    def matrix(self, at: NDArray[np.float32], size: int, scale: float) -> NDArray[np.float32]:
        """Weights (size, results) of interpolation at places in a line of ``size`` values.

        Args:
            at: the places, in values of the line.
            size: how many values it has.
            scale: of the result to it.
        """
        stretch = max(1.0, 1 / scale) if self.smooth else 1.0
        reach = stretch * (1 if self.cubic is None else 2)
        matrix = np.zeros((size, len(at)))
        for place, centre in enumerate(at.astype(np.float64)):
            if self.cubic is None and not self.smooth:
                centre = min(max(centre, 0), size - 1)
            taps = np.arange(math.floor(centre - reach) + 1, math.ceil(centre + reach))
            weights = self._weights((taps - centre) / stretch)
            if self.inside:
                weights[(taps < 0) | (taps >= size)] = 0
            np.add.at(matrix[:, place], np.clip(taps, 0, size - 1), weights / weights.sum())
        return matrix.astype(np.float32)

    def _weights(self, distance: NDArray[Any]) -> NDArray[Any]:
        x = np.abs(distance)
        if self.cubic is None:
            linear: NDArray[Any] = np.maximum(1 - x, 0)
            return linear
        a = self.cubic
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        found: NDArray[Any] = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
        return found
