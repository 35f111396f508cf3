"""What a comparison of a target with its simulation found; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bitladder.measurement import Measurement, told
from bitladder.targets.remedy import REMEDY


@dataclass(frozen=True)
class Beside:
    """What another session of the same file made of the images.

    Attributes:
        quality: with the targets, or None without.
        agreement: mean share in which it gives the simulation's answers, or None without a task.
        equal: share of images whose every output is the target's to the last bit.
        worst_lsb: largest difference of the target's outputs from it, see ``Comparison``.
    """

    quality: Measurement | None
    agreement: Measurement | None
    equal: Measurement
    worst_lsb: float


@dataclass(frozen=True)
class Comparison:
    """A target against the simulation, on the same images.

    Attributes:
        quality: the target's, or None without a task or targets.
        simulation: the simulation's, or None likewise.
        agreement: mean share in which both give the same answer, or None where the task cannot say.
        equal: share of images whose every output is the simulation's to the last bit.
        worst_lsb: largest difference of an output in steps of its grid, or in its own unit where it
            is float.
        mean_lsb: mean difference in the same unit.
        sqnr: of each output against the simulation's, in dB.
        seconds: time the target took.
        apart: the first images, by their number, whose answers differ; where none do, or without a
            task, those whose outputs do.
        integer: the integer arithmetic of the file, or None where it is not known.
        precise: the session whose sums are exact, or None where the target's cannot saturate.
    """

    quality: Measurement | None
    simulation: Measurement | None
    agreement: Measurement | None
    equal: Measurement
    worst_lsb: float
    mean_lsb: float
    sqnr: Mapping[str, float]
    seconds: float
    apart: tuple[int, ...] = field(default=())
    integer: Beside | None = None
    precise: Beside | None = None

    @property
    def saturates(self) -> bool:
        """Whether an output of the target is another than with exact sums."""
        return self.precise is not None and self.precise.equal.value < 1

    def saturation(self) -> str | None:
        """What saturated sums cost the target, in words, or None where none did."""
        precise = self.precise
        if precise is None or not self.saturates:
            return None
        pairs = [
            (self.quality and self.quality.name, self.quality, precise.quality),
            ("agreement with the simulation", self.agreement, precise.agreement),
        ]
        costs = "".join(
            f"{name} {told(here.value, here.unit)} where exact sums have "
            f"{told(exact.value, exact.unit)}, "
            for name, here, exact in pairs
            if here is not None and exact is not None
        )
        return (
            f"a session with default options saturates 16-bit sums on this processor: {costs[:-2]}"
            f"{'; ' if costs else ''}{100 * (1 - precise.equal.value):.2f} % of the images have "
            f"other outputs, by up to {precise.worst_lsb:.0f} LSB; {REMEDY}"
        )
