"""One class an image: logits (N, classes), or the one logit of two classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bitladder.errors import DataError, ModelError
from bitladder.measurement import Measurement, proportion
from bitladder.structures import Outputs
from bitladder.tasks.classes import (
    as_labels,
    by_class,
    choose,
    label_loss,
    number,
    share_loss,
    shares,
)
from bitladder.tasks.targets import label, labels
from bitladder.tasks.task import Task

_MOST_CLASSES = 100_000


class Classification(Task):
    """See ``Task``. The quality is top-1 accuracy; ranges of logits keep their softmax.

    A network returns one tensor: logits (N, classes), or (N, 1) where there are two classes. A
    target is the number of a class.
    """

    name = "classification"
    quality = "accuracy"

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See ``Task.check``."""
        logits = _logits(outputs)
        if (
            classes is not None
            and logits.shape[1] != classes
            and (classes, logits.shape[1]) != (2, 1)
        ):
            raise ModelError(
                f"maps {len(logits)} images to shape {tuple(logits.shape)}; {classes} classes need "
                f"({len(logits)}, {classes})"
            )
        if target is not None:
            as_labels(target, logits)

    def classes(self, targets: list[Any]) -> int:
        """One more than the largest label."""
        found = int(max(targets)) + 1
        if found > _MOST_CLASSES:
            raise DataError(f"labels go up to {found - 1}; number the classes from 0")
        if found < 2:
            raise DataError("every label is 0; a classifier needs two classes")
        return found

    def outputs_classes(self, outputs: Outputs) -> int:
        """The columns of the logits, or two where there is one."""
        return number(_logits(outputs))

    def target(self, value: Any, where: str) -> int:
        """A class, counted from 0."""
        return label(value, where)

    def batch(self, targets: list[Any]) -> Tensor:
        """Int64 labels (N,)."""
        return torch.tensor(targets, dtype=torch.int64)

    def batched(self, value: Any, count: int, where: str, classes: int | None = None) -> Tensor:
        """Int64 labels (N,)."""
        return labels(value, where, count, classes)

    def movable(self, target: Any, size: tuple[int, int]) -> Any:
        """See ``Task.movable``: a class stays what it is."""
        return target

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """Cross-entropy in nats."""
        return label_loss(_logits(outputs), target)

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """Cross-entropy with the teacher's softmax, in nats (Hinton 2015, temperature 1)."""
        return share_loss(_logits(outputs), shares(_logits(teacher)))

    def meter(self) -> Accuracy:
        """Top-1 accuracy."""
        return Accuracy()

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """1 where both give the same class, else 0."""
        return (choose(_logits(outputs)) == choose(_logits(reference))).double()

    def range_loss(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """Cross-entropy with the softmax of the reference (Nagel 2021, arXiv 2106.08295, 3.1)."""
        return self.distill(outputs, reference)

    def logits(self, outputs: Outputs) -> Tensor:
        """See ``HasLogits``: one row an image, ``(0, z)`` of a single logit ``z``."""
        return by_class(_logits(outputs))

    def chance(self, classes: int | None) -> float | None:
        """One of the classes, drawn blindly."""
        return None if classes is None else 1 / classes


class Accuracy:
    """See ``Meter``: the share of images whose class is right."""

    def __init__(self) -> None:
        self._answers: list[Tensor] = []
        self._truth: list[Tensor] = []

    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch."""
        logits = _logits(outputs).detach()
        self._answers.append(choose(logits))
        self._truth.append(as_labels(target, logits).to(logits.device))

    def value(self) -> float:
        """The share so far."""
        return float((torch.cat(self._answers) == torch.cat(self._truth)).double().mean())

    def measurement(self) -> Measurement:
        """Accuracy with its Wilson interval."""
        if not self._answers:
            raise DataError("there are no images to measure on; give at least one")
        answers, truth = torch.cat(self._answers).cpu(), torch.cat(self._truth).cpu()
        found = proportion("accuracy", (answers == truth).tolist())
        return replace(found, answers=tuple(answers.tolist()), truth=tuple(truth.tolist()))


def _logits(outputs: Outputs) -> Tensor:
    """The one output, logits (N, classes).

    Raises:
        ModelError: there are others.
    """
    if len(outputs) == 1:
        [logits] = outputs.values()
        if logits.dim() == 2:
            return logits
    returned = ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())
    raise ModelError(
        f"returns {returned or 'no tensor'}, not logits (N, classes); wrap the network in a module "
        "whose forward returns them alone, or name another task"
    )
