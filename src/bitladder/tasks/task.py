"""What a task must say: the one interface between networks' outputs and everything else."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bitladder.errors import DataError
from bitladder.measurement import Measurement
from bitladder.structures import Outputs
from bitladder.tasks.targets import kind


class Meter(Protocol):
    """Gathers the outputs of one network, batch by batch."""

    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch.

        Args:
            outputs: by name, the first dimension of each being the batch.
            target: of the same images, as ``Task.batch`` or the user's loader gives it.

        Raises:
            DataError: the target does not fit the outputs.
        """

    def value(self) -> float:
        """The quality so far, without its interval."""

    def measurement(self) -> Measurement:
        """The quality of all that was counted.

        Raises:
            DataError: nothing was counted, or outputs are not finite.
        """


@runtime_checkable
class Task(Protocol):
    """What a network's outputs mean.

    A user's own task is a subclass that gives at least ``loss`` and ``meter``. It is named
    ``package.module:Class`` in a study and made without arguments there; in Python an instance
    will do.

    Attributes:
        name: of the task, in tables.
        quality: name of what its meter measures.
        higher_is_better: whether more of it is better.
    """

    name: str = "task"
    quality: str = "quality"
    higher_is_better: bool = True

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """What training makes small: a scalar, the mean over the batch."""
        raise NotImplementedError

    def meter(self) -> Meter:
        """A new meter of the quality."""
        raise NotImplementedError

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """How far outputs are from those of a teacher on the same images: a scalar.

        By default the mean over the outputs of the squared error, each relative to the variance of
        the teacher's.
        """
        return torch.stack(
            [_relative_error(outputs[name], teacher[name]) for name in teacher]
        ).mean()

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor | None:
        """How far two networks give the same answer, (N,) shares from 0 to 1, one an image.

        None, which is the default, where nothing can be said of that.
        """
        return None

    def range_loss(self, outputs: Outputs, reference: Outputs) -> Tensor | None:
        """What the ranges of the outputs' quantizers make small, a scalar.

        None, which is the default, leaves them to the method that finds all other ranges.
        """
        return None

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See that outputs, and a target if one is there, are such as the task can read.

        Args:
            outputs: of some images.
            target: of the same images, or None.
            classes: that the data set has, or None where that is not known.

        Raises:
            ModelError: the outputs are not; the message goes on from the network's name.
            DataError: the target does not fit them.
        """

    def target(self, value: Any, where: str) -> Any:
        """The target of one image, checked.

        By default a tensor of any shape.

        Args:
            value: what a data set has beside the image.
            where: the item, as an error says it.

        Raises:
            DataError: it is no target of this task.
        """
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(f"{where}: a target must be a tensor, not {kind(value)}") from None

    def batch(self, targets: list[Any]) -> Any:
        """The targets of several images as one: a tensor (N, ...), or a list of N.

        By default stacked where all have one shape.
        """
        alike = len({getattr(one, "shape", None) for one in targets}) == 1
        return torch.stack(targets) if alike and isinstance(targets[0], Tensor) else targets

    def batched(self, value: Any, count: int, where: str, classes: int | None = None) -> Any:
        """The target of a batch of the user's loader, checked; by default as it is.

        Args:
            value: what stands beside the images.
            count: number of images.
            where: the batch, as an error says it.
            classes: that the network tells apart, or None where that is not known.

        Raises:
            DataError: it is no target of this task.
        """
        return value

    def movable(self, target: Any, size: tuple[int, int]) -> Any:
        """The target of one image as what moves with it when training images are augmented.

        That is made of torchvision's ``tv_tensors``; what stays, such as a label, is left as it is.
        By default nobody knows, and ``augment: standard`` is refused.

        Args:
            target: of one image, as ``target`` returned it.
            size: height and width of the image.

        Raises:
            NotImplementedError: nobody knows.
            DataError: it cannot be moved.
        """
        raise NotImplementedError

    def classes(self, targets: list[Any]) -> int | None:
        """How many classes a network must tell apart, or None in a task without classes.

        Args:
            targets: of all images, as ``target`` returned them.

        Raises:
            DataError: there are too few, or they are not numbered from 0.
        """
        return None

    def outputs_classes(self, outputs: Outputs) -> int | None:
        """How many classes the outputs tell apart, or None in a task without classes."""
        return None

    def chance(self, classes: int | None) -> float | None:
        """The quality of a network that has learned nothing, or None where nobody knows it."""
        return None


@runtime_checkable
class HasLogits(Protocol):
    """A task whose ``range_loss`` is a cross-entropy, which a kernel computes for many ranges."""

    def logits(self, outputs: Outputs) -> Tensor:
        """Rows of logits (M, K), each number of which is one of the outputs or zero.

        ``range_loss`` is the mean cross-entropy of their softmax with that of the reference.
        """


def _relative_error(given: Tensor, wanted: Tensor) -> Tensor:
    spread = wanted.var().clamp(min=torch.finfo(wanted.dtype).tiny)
    return (given - wanted).square().mean() / spread
