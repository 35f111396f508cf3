"""A class a pixel: logits (N, classes, H, W), or one logit a pixel of two classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torchvision import tv_tensors

from bitladder.errors import DataError, ModelError
from bitladder.measurement import Measurement, resampled
from bitladder.structures import Outputs
from bitladder.tasks.classes import by_class, choose, number, shares
from bitladder.tasks.targets import classes_of, kind, masks
from bitladder.tasks.task import Task

IGNORED = 255
"""The class of pixels that do not count, as in PASCAL VOC and Cityscapes."""


class Segmentation(Task):
    """See ``Task``. The quality is the mean intersection over union of the classes.

    A network returns logits (N, classes, H, W), alone or as ``out`` beside others, as torchvision's
    do. A target is a mask (H, W) of class numbers; 255 does not count.
    """

    name = "segmentation"
    quality = "mIoU"

    def logits(self, outputs: Outputs) -> Tensor:
        """Logits (pixels, classes) of all pixels."""
        found = _logits(outputs)
        return found.movedim(1, -1).reshape(-1, found.shape[1])

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See ``Task.check``."""
        found = _logits(outputs)
        if classes is not None and number(found) < classes:
            raise ModelError(
                f"returns {tuple(found.shape)}; {classes} classes need ({len(found)}, {classes}, "
                "height, width)"
            )
        if target is not None:
            _fitting(target, found)

    def classes(self, targets: list[Any]) -> int:
        """One more than the largest class of a mask, at least two."""
        found = [int(mask[mask != IGNORED].max()) for mask in targets if (mask != IGNORED).any()]
        if not found:
            raise DataError("no pixel of any mask counts; give masks of class numbers")
        return max(2, 1 + max(found))

    def outputs_classes(self, outputs: Outputs) -> int:
        """The channels of the logits, or two where there is one."""
        return number(_logits(outputs))

    def target(self, value: Any, where: str) -> Tensor:
        """A mask (H, W) of class numbers."""
        mask = torch.as_tensor(value) if isinstance(value, Tensor | np.ndarray) else value
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            given = f"of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else kind(mask)
            raise DataError(
                f"{where}: a mask must be a tensor (H, W) of class numbers, not {given}"
            )
        return classes_of(mask, where, None, IGNORED)

    def batched(self, value: Any, count: int, where: str, classes: int | None = None) -> Tensor:
        """Int64 masks (N, H, W)."""
        return masks(value, where, count, classes, IGNORED)

    def movable(self, target: Tensor, size: tuple[int, int]) -> Tensor:
        """See ``Task.movable``."""
        mask: Tensor = tv_tensors.Mask(target)
        return mask

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """Cross-entropy of the pixels that count, in nats."""
        found = _logits(outputs)
        return cross_entropy(by_class(found), _fitting(target, found), ignore_index=IGNORED)

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """Cross-entropy of the pixels with the teacher's softmax, in nats."""
        return cross_entropy(by_class(_logits(outputs)), shares(_logits(teacher)))

    def meter(self) -> MeanIntersectionOverUnion:
        """Mean intersection over union."""
        return MeanIntersectionOverUnion()

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """The share of the pixels with the same class."""
        same = choose(_logits(outputs)) == choose(_logits(reference))
        return same.flatten(1).double().mean(1)

    def range_loss(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """Cross-entropy with the softmax of the reference (Nagel 2021, arXiv 2106.08295, 3.1)."""
        return self.distill(outputs, reference)


class MeanIntersectionOverUnion:
    """See ``Meter``: over the whole set, the mean of the classes that are in masks or answers."""

    def __init__(self) -> None:
        self._both: list[Tensor] = []
        self._either: list[Tensor] = []

    @torch.no_grad()
    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch."""
        logits = _logits(outputs)
        mask, classes = _fitting(target, logits), number(logits)
        counted = mask != IGNORED
        wanted = one_hot(mask.clamp(max=classes - 1), classes) * counted[..., None]
        found = one_hot(choose(logits), classes) * counted[..., None]
        both = (wanted * found).flatten(1, 2).sum(1)
        self._both.append(both.double().cpu())
        self._either.append((wanted + found).flatten(1, 2).sum(1).double().cpu() - both.cpu())

    def value(self) -> float:
        """The quality so far."""
        each = torch.cat(self._both).sum(0), torch.cat(self._either).sum(0)
        return float(_mean(each[0].numpy()[None], each[1].numpy()[None])[0])

    def measurement(self) -> Measurement:
        """The quality with its bootstrap interval; an image's score is its own mean."""
        if not self._both:
            raise DataError("there are no images to measure on; give at least one")
        both, either = torch.cat(self._both).numpy(), torch.cat(self._either).numpy()
        try:
            return resampled(
                "mIoU",
                lambda weights: _mean(weights @ both, weights @ either),
                len(both),
                unit="share",
                scores=_mean(both, either).tolist(),
            )
        except ValueError as error:
            raise DataError(str(error)) from error


def _mean(both: NDArray[Any], either: NDArray[Any]) -> NDArray[Any]:
    """Of rows (R, classes), the mean over the classes that are there; 1 where none is."""
    there = either > 0
    each = np.divide(both, either, out=np.zeros_like(both, np.float64), where=there)
    means: NDArray[Any] = np.where(there.any(1), each.sum(1) / np.maximum(1, there.sum(1)), 1.0)
    return means


def _fitting(target: Any, logits: Tensor) -> Tensor:
    """The masks on the logits' device.

    Raises:
        DataError: they are not (N, H, W) of the logits, or hold classes beyond them.
    """
    wanted = (len(logits), *logits.shape[2:])
    if not isinstance(target, Tensor) or tuple(target.shape) != wanted:
        given = tuple(target.shape) if isinstance(target, Tensor) else kind(target)
        raise DataError(f"masks: {given} for logits {tuple(logits.shape)}; give {wanted}")
    return classes_of(target.to(logits.device), "masks", number(logits), IGNORED)


def _logits(outputs: Outputs) -> Tensor:
    """The logits (N, classes, H, W).

    Raises:
        ModelError: there are others.
    """
    found = next(iter(outputs.values())) if len(outputs) == 1 else outputs.get("out")
    if found is None or found.dim() != 4:
        returned = ", ".join(f"{name} {tuple(one.shape)}" for name, one in outputs.items())
        raise ModelError(
            f"returns {returned or 'no tensor'}, not logits (N, classes, H, W), alone or as 'out'"
        )
    return found
