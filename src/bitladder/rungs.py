"""A rung of the ladder: what a network is after one technique, as it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bitladder.measurement import Loss, Measurement, loss

FLOAT = "float"
"""The first rung: the float network itself."""
INTEGER_BIASES = "integer_biases"
"""The last rung: the biases that integer kernels add."""


@dataclass(frozen=True)
class Rung:
    """The network after one technique.

    Attributes:
        technique: its name; ``float`` is the network before any, and ``integer_biases`` the one
            whose biases are those that integer kernels add.
        quality: on the validation images, or None where there are none or no task.
        sqnr: of each output against the float network's on calibration images, in dB; none of the
            float network itself.
        agreement: mean share, 0 to 1, in which the task's answer to calibration images stays; None
            where nobody can say.
        seconds: what the technique took, without the measurement.
        notes: what it said of its work.
    """

    technique: str
    quality: Measurement | None = None
    sqnr: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def loss_of(rung: Rung, before: Rung) -> Loss | None:
    """How much worse a rung is than another one, with its paired interval; None without qualities.

    Args:
        rung: such as the last one.
        before: such as the float network.
    """
    if rung.quality is None or before.quality is None:
        return None
    return loss(before.quality, rung.quality)
