"""What a task must say: the one interface between networks' outputs and everything else."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from bitladder.measurement import Measurement
from bitladder.structures import Outputs


class Meter(Protocol):
    """Gathers the outputs of one network, batch by batch."""

    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch.

        Args:
            outputs: by name, the first dimension of each being the batch.
            target: of the same images, as the data set gives it.

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

    A user's own task is a class with these, given as ``package.module:Class`` in a study, or an
    instance where Python calls for one. It is made without arguments.

    Attributes:
        name: of the task, in tables.
        quality: name of what its meter measures.
    """

    name: str
    quality: str

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See that outputs, and a target if one is there, are such as the task can read.

        Args:
            outputs: of some images.
            target: of the same images, or None.
            classes: that the data set has, or None where that is not known.

        Raises:
            ModelError: the outputs are not.
            DataError: the target does not fit them.
        """

    def classes(self, targets: list[Any]) -> int | None:
        """How many classes a network must tell apart, or None in a task without classes.

        Args:
            targets: of all images, as ``target`` returned them.

        Raises:
            DataError: there are too few, or they are not numbered from 0.
        """

    def target(self, value: Any, where: str) -> Any:
        """The target of one image as the data set gave it: checked, tensors or numbers.

        Args:
            value: what stands beside the image.
            where: the item, as an error says it.

        Raises:
            DataError: it is no target of this task.
        """

    def batch(self, targets: list[Any]) -> Any:
        """The targets of several images as one, such as a tensor (N,)."""

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """What training makes small: a scalar, the mean over the batch."""

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """How far outputs are from those of a teacher on the same images: a scalar."""

    def meter(self) -> Meter:
        """A new meter of the quality."""

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """How far two networks give the same answer, (N,) shares from 0 to 1, one an image."""

    def range_loss(self, outputs: Outputs, reference: Outputs) -> Tensor | None:
        """What the range of the outputs' quantizer makes small, or None for the squared error."""

    def chance(self, classes: int | None) -> float | None:
        """The quality of a network that has learned nothing, or None where nobody knows it."""
