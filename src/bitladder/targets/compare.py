"""Run an artifact and its simulation on the same images and count where they part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bitladder.accuracy import Accuracy
from bitladder.classes import choose
from bitladder.data import Batches
from bitladder.errors import TargetError
from bitladder.targets.session import Session


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


_SHOWN = 4  # of the images to which target and simulation give different classes


@torch.no_grad()
def compare(
    session: Session,
    simulation: Callable[[Tensor], Tensor],
    batches: Batches,
    integer: Session | None = None,
) -> Comparison:
    """Compare on every image of ``batches``.

    Args:
        session: the target.
        simulation: maps images (N, C, H, W) to the logits that it should compute; a module is in
            evaluation mode.
        batches: images and labels.
        integer: the integer arithmetic of what it runs, or None.

    Raises:
        TargetError: the target fails, or its logits are of another shape.
    """
    right = expected = agree = total = elements = exact = equal = 0
    worst = furthest = summed = seconds = 0.0
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
        if integer is not None:
            computed = torch.from_numpy(integer.run(images.contiguous().numpy()))
            exact += int((choose(computed) == labels).sum())
            equal += int((computed == logits).all(1).sum())
            difference = (logits - computed).abs().double() / (session.lsb or 1.0)
            furthest = max(furthest, float(difference.max()))
    return Comparison(
        accuracy=Accuracy(right, total),
        simulation=Accuracy(expected, total),
        agreement=Accuracy(agree, total),
        worst_lsb=worst,
        mean_lsb=summed / elements,
        seconds=seconds,
        apart=tuple(apart[:_SHOWN]),
        integer=Accuracy(exact, total) if integer else None,
        integer_equal=Accuracy(equal, total) if integer else None,
        integer_worst_lsb=furthest if integer else None,
    )
