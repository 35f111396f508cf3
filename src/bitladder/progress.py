"""How far a training run is, as it is told to whoever watches; free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far training is: accuracies are fractions, ``seconds_left`` an estimate."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    train_acc: float | None
    val_acc: float | None
    seconds_left: float
