"""What fine-tuning adds to training: a teacher, learning rates, a penalty, resting batch norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Tuning:
    """How a network is trained beyond its labels.

    Attributes:
        teacher: network whose outputs are followed, or None. It sees the same batch, so that the
            images are read once.
        distill: share of the loss that follows the teacher, 0 to 1.
        rate: factor on the learning rate of a parameter, by its name.
        penalty: called with the share of the steps done (0 to 1); what it returns is added to the
            loss.
        freeze_batch_norm: share of the steps after which batch norms keep their statistics.
    """

    teacher: nn.Module | None = None
    distill: float = 0.0
    rate: Callable[[str], float] | None = None
    penalty: Callable[[float], Tensor] | None = None
    freeze_batch_norm: float = 1.0
