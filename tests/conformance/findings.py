"""What a check gives, and which findings are faults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

_FLOAT_NOISE = 0.05  # of a step: what an output in float may differ by and count as the same
_TIED_IMAGES, _DEEP_STEPS, _DEEP_DECIBELS = 0.17, 3, 70
_LOADER_DECIBELS = 10
# Two float sums of the same numbers differ in their last bits. Where the exact result is as near to
# the middle between two integers as that, they are rounded apart. One bit more of the integers
# doubles how often that is: of 16-bit values it is one in a hundred, of 8-bit some in 100,000.
_TIES = {8: 2e-3, 16: 0.05}
_TIE_STEPS = {8: 1.0, 16: 2.0}


class Verdict(StrEnum):
    """What came of a check."""

    EXACT = "exact"
    STEPS = "steps"
    FLOAT = "float"
    REFUSED = "refused"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        verdict: exact; within some steps; computed in float; refused; or a fault.
        steps: largest difference in steps of the output's grid.
        share: of the values that differ, 0 to 1.
        rows: share of the images with a value that differs.
        decibels: signal to noise.
        reason: why it is not exact.
        explained: whether all of it follows from values that lie as near to the middle between
            two integers as arithmetic is exact (see ``ties``).
    """

    verdict: Verdict
    steps: float = 0.0
    share: float = 0.0
    rows: float = 0.0
    decibels: float = float("inf")
    reason: str = ""
    explained: bool = False

    def __str__(self) -> str:
        if self.verdict is Verdict.STEPS:
            return f"{self.steps:.4g} steps in {100 * self.share:.2g} %, {self.decibels:.0f} dB"
        return f"{self.verdict}: {self.reason}" if self.reason else str(self.verdict)


EXACT = Finding(Verdict.EXACT)


def difference(found: Any, right: Any, step: float) -> Finding:
    """Compare values (N, K), in steps of a grid."""
    if found.shape != right.shape:
        return Finding(Verdict.FAULT, reason=f"shape {found.shape}, not {right.shape}")
    apart = np.abs(found.astype(np.float64) - right.astype(np.float64)) / step
    if not np.isfinite(apart).all():
        return Finding(Verdict.FAULT, reason="values that are not finite")
    if apart.size == 0 or apart.max() <= _FLOAT_NOISE:
        return EXACT
    noise = float(np.square(found - right, dtype=np.float64).sum())
    signal = float(np.square(right, dtype=np.float64).sum())
    return Finding(
        Verdict.STEPS,
        steps=float(apart.max()),
        share=float((apart > _FLOAT_NOISE).mean()),
        rows=float((apart > _FLOAT_NOISE).any(1).mean()),
        decibels=float(10 * np.log10(signal / noise)) if signal else 0.0,
    )


def is_tie(finding: Finding, bits: int) -> bool:
    """Whether a difference is one of rounding: a single step, in few values."""
    kind = 8 if bits <= 8 else 16
    return finding.steps <= _TIE_STEPS[kind] + _FLOAT_NOISE and finding.share <= _TIES[kind]


def is_tie_of_few(finding: Finding, bits: int) -> bool:
    """Whether a difference can come of ties inside of a network: small, and in few images.

    At 16 bit every image has some, and what they come to is small against the outputs.
    """
    if bits > 8:
        return finding.decibels >= _DEEP_DECIBELS
    return finding.rows <= _TIED_IMAGES and finding.steps <= _DEEP_STEPS


def faults(
    findings: dict[str, Finding], bits: int, *, refused: str | None = None, deep: bool = False
) -> list[str]:
    """What is wrong in a case's findings, a line each.

    Args:
        findings: by the name of the check.
        bits: of activations.
        refused: pattern of the refusal that is right, or None.
        deep: whether one tie can have many values of an image behind it.
    """
    found = []
    refusals = [f for f in findings.values() if f.verdict is Verdict.REFUSED]
    if refused is not None:
        if any(re.search(refused, finding.reason) for finding in refusals):
            return []
        found.append(f"should be refused with '{refused}'")
    for name, finding in findings.items():
        if (
            finding.verdict is Verdict.FAULT
            or (finding.verdict is Verdict.REFUSED and name != "htp")
            or (finding.verdict is Verdict.STEPS and not _allowed(name, finding, bits, deep))
        ):
            found.append(f"{name}: {finding}")
    return found


def _allowed(name: str, finding: Finding, bits: int, deep: bool) -> bool:
    if name == "integers":
        return False
    if finding.explained:
        return True
    if name in ("optimised", "htp"):
        return finding.decibels >= least_decibels(bits)
    if name == "loader":  # where AIMET's own simulation puts its quantizers is its own affair
        return finding.decibels >= _LOADER_DECIBELS
    return is_tie(finding, bits) or (deep and is_tie_of_few(finding, bits))


def least_decibels(bits: int) -> float:
    """Least signal to noise of a target that rounds elsewhere than the simulation, and is right."""
    return 6.0 * min(bits, 8) - 18


def one_line(error: Exception) -> str:
    """An error's text without folders that change from run to run."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"/\S*/", "", text)[:300]
