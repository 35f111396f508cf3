"""Run an artifact and its simulation on the same images and count where they part."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bitladder.accuracy import Accuracy
from bitladder.data import Batches
from bitladder.errors import TargetError
from bitladder.targets.graph import REMEDY
from bitladder.targets.session import Session
from bitladder.tasks.classes import choose


@dataclass(frozen=True)
class Comparison:
    """A target against the simulation.

    Attributes:
        accuracy: the target's.
        simulation: the simulation's, on the same images.
        agreement: images to which both give the same class.
        worst_lsb: largest difference of a logit in steps of the logits' grid, or of their own
            unit where they are float.
        mean_lsb: mean difference in the same unit.
        seconds: time the target took.
        apart: the first images, by their number, to which they give different classes.
        integer: accuracy of the integer arithmetic, on the same images, where it is known.
        integer_equal: images whose every logit is the target's to the last bit.
        integer_worst_lsb: largest difference of the target's logits from it.
        precise: accuracy of the session whose sums are exact, where the target's can saturate.
        precise_agreement: images to which that session and the simulation give the same class.
        precise_equal: images whose every logit is the target's to the last bit.
        precise_worst_lsb: largest difference of the target's logits from it.
    """

    accuracy: Accuracy
    simulation: Accuracy
    agreement: Accuracy
    worst_lsb: float
    mean_lsb: float
    seconds: float
    apart: tuple[int, ...] = ()
    integer: Accuracy | None = None
    integer_equal: Accuracy | None = None
    integer_worst_lsb: float | None = None
    precise: Accuracy | None = None
    precise_agreement: Accuracy | None = None
    precise_equal: Accuracy | None = None
    precise_worst_lsb: float | None = None

    @property
    def saturates(self) -> bool:
        """Whether a logit of the target is another than with exact sums."""
        return self.precise_equal is not None and self.precise_equal.value < 1

    def saturation(self, *, labelled: bool = True) -> str | None:
        """What saturated sums cost the target, in words, or None where none did.

        Args:
            labelled: the images had labels, so that accuracies mean something.
        """
        if not self.saturates:
            return None
        assert self.precise is not None
        assert self.precise_agreement is not None
        assert self.precise_equal is not None
        assert self.precise_worst_lsb is not None
        shares = [("agreement with the simulation", self.agreement, self.precise_agreement)]
        if labelled:
            shares.insert(0, ("accuracy", self.accuracy, self.precise))
        costs = ", ".join(
            f"{name} {100 * here.value:.2f} % where exact sums have {100 * exact.value:.2f} %"
            for name, here, exact in shares
        )
        return (
            f"a session with default options saturates 16-bit sums on this processor: {costs}; "
            f"{100 * (1 - self.precise_equal.value):.2f} % of the images have other logits, "
            f"by up to {self.precise_worst_lsb:.0f} LSB; {REMEDY}"
        )


_SHOWN = 4  # of the images to which target and simulation give different classes


@torch.no_grad()
def compare(
    session: Session,
    simulation: Callable[[Tensor], Tensor],
    batches: Batches,
    integer: Session | None = None,
    precise: Session | None = None,
) -> Comparison:
    """Compare on every image of ``batches``.

    Args:
        session: the target.
        simulation: maps images (N, C, H, W) to the logits that it should compute; a module is in
            evaluation mode.
        batches: images and labels.
        integer: the integer arithmetic of what it runs, or None.
        precise: the target's session whose sums are exact, or None.

    Raises:
        TargetError: the target fails, or its logits are of another shape.
    """
    right = expected = agree = total = elements = 0
    worst = summed = seconds = 0.0
    arithmetic, exact = _Beside(integer), _Beside(precise)
    apart: list[int] = []
    for images, labels in batches:
        intended = simulation(images).cpu()
        started = time.perf_counter()
        logits = torch.from_numpy(session.run(images.contiguous().numpy()))
        seconds += time.perf_counter() - started
        if logits.shape != intended.shape:
            raise TargetError(
                f"the target's logits are {tuple(logits.shape)}, "
                f"the simulation's {tuple(intended.shape)}"
            )
        chosen, wanted = choose(logits), choose(intended)
        labels = labels.reshape(len(labels), -1)[:, 0].cpu()  # binary ones may be a column
        right += int((chosen == labels).sum())
        expected += int((wanted == labels).sum())
        agree += int((chosen == wanted).sum())
        apart += (total + (chosen != wanted).nonzero().flatten()).tolist()
        total += len(labels)
        difference = (logits - intended).abs().double() / (session.lsb or 1.0)
        worst = max(worst, float(difference.max()))
        summed += float(difference.sum())
        elements += difference.numel()
        for other in (arithmetic, exact):
            other.add(images, labels, logits, wanted, session.lsb or 1.0)
    return Comparison(
        accuracy=Accuracy(right, total),
        simulation=Accuracy(expected, total),
        agreement=Accuracy(agree, total),
        worst_lsb=worst,
        mean_lsb=summed / elements,
        seconds=seconds,
        apart=tuple(apart[:_SHOWN]),
        integer=arithmetic.share("right"),
        integer_equal=arithmetic.share("equal"),
        integer_worst_lsb=arithmetic.worst,
        precise=exact.share("right"),
        precise_agreement=exact.share("agree"),
        precise_equal=exact.share("equal"),
        precise_worst_lsb=exact.worst,
    )


class _Beside:
    """What another session, if there is one, makes of the images, against the target's logits."""

    def __init__(self, session: Session | None) -> None:
        self.session = session
        self.counts: Counter[str] = Counter()
        self.worst: float | None = None if session is None else 0.0

    def add(
        self, images: Tensor, labels: Tensor, logits: Tensor, wanted: Tensor, step: float
    ) -> None:
        """Run a batch; ``wanted`` are the classes of the simulation."""
        if self.session is None:
            return
        computed = torch.from_numpy(self.session.run(images.contiguous().numpy()))
        chosen = choose(computed)
        self.counts["right"] += int((chosen == labels).sum())
        self.counts["agree"] += int((chosen == wanted).sum())
        self.counts["equal"] += int((computed == logits).all(1).sum())
        self.counts["total"] += len(labels)
        furthest = float((logits - computed).abs().double().max()) / step
        self.worst = max(self.worst or 0.0, furthest)

    def share(self, count: str) -> Accuracy | None:
        """Of the images, or None where there is no session."""
        if self.session is None:
            return None
        return Accuracy(self.counts[count], self.counts["total"])
