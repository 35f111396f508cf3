"""A meter of one score an image, for tasks whose quality is a mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bitladder.errors import DataError
from bitladder.measurement import Measurement, Unit, average
from bitladder.structures import Outputs


class ScoreMeter:
    """See ``Meter``: the mean of a score an image, with its bootstrap interval.

    Args:
        name: of the quality.
        score: maps outputs and target of a batch to the scores (N,).
        unit: of the scores.
        higher_is_better: whether larger scores are better.
    """

    def __init__(
        self,
        name: str,
        score: Callable[[Outputs, Any], Tensor],
        *,
        unit: Unit = "",
        higher_is_better: bool = True,
    ) -> None:
        self.name, self.score = name, score
        self.unit, self.higher_is_better = unit, higher_is_better
        self._scores: list[Tensor] = []

    @torch.no_grad()
    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch."""
        self._scores.append(self.score(outputs, target).detach().double().cpu())

    def value(self) -> float:
        """The mean so far."""
        return float(torch.cat(self._scores).mean())

    def measurement(self) -> Measurement:
        """The mean and its interval."""
        if not self._scores:
            raise DataError("there are no images to measure on; give at least one")
        try:
            return average(
                self.name,
                torch.cat(self._scores).numpy(),
                unit=self.unit,
                higher_is_better=self.higher_is_better,
            )
        except ValueError as error:
            raise DataError(str(error)) from error
