"""How far a training run is, as it is told to whoever watches; free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far training is: qualities in the task's unit, ``seconds_left`` an estimate."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    train_quality: float | None
    val_quality: float | None
    seconds_left: float
