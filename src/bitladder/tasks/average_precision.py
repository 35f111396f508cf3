"""COCO's mean average precision (Lin 2014, arXiv 1405.0312), with a bootstrap over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from bitladder.errors import DataError
from bitladder.measurement import Measurement, resampled
from bitladder.structures import Outputs

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
"""Intersections over union that a box must reach to be right."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Detections:
    """What a network found in one image.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, (K, 4).
        scores: 0 to 1, (K,), the surest first.
        labels: int64 (K,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def above(self, score: float) -> Detections:
        """Those of at least a score."""
        kept = self.scores >= score
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


@dataclass(frozen=True)
class _Matched:
    """The detections of one class in one image.

    Attributes:
        scores: (D,).
        right: whether each is at each threshold, (thresholds, D).
        objects: of that class in the image.
    """

    scores: NDArray[Any]
    right: NDArray[Any]
    objects: int


class AveragePrecision:
    """See ``Meter``. The mean over classes that have objects and over IoU 0.5 to 0.95.

    Args:
        predictions: makes detections, one an image, of a network's outputs.
    """

    def __init__(self, predictions: Callable[[Outputs], list[Detections]]) -> None:
        self.predictions = predictions
        self._images: list[dict[int, _Matched]] = []

    @torch.no_grad()
    def update(self, outputs: Outputs, target: Any) -> None:
        """Count a batch; targets are mappings with ``boxes`` and ``labels``."""
        for found, wanted in zip(self.predictions(outputs), target, strict=True):
            self._images.append(_match(found, wanted["boxes"].cpu(), wanted["labels"].cpu()))

    def value(self) -> float:
        """The quality so far."""
        return float(_quality(self._images)(np.ones((1, len(self._images))))[0])

    def measurement(self) -> Measurement:
        """The quality with its bootstrap interval.

        An image's score is its own mean average precision; one without objects has 1 where nothing
        was found in it, else 0.
        """
        if not self._images:
            raise DataError("there are no images to measure on; give at least one")
        if not any(one.objects for image in self._images for one in image.values()):
            raise DataError("no image that is measured has an object; give some that have")
        alone = [_alone(image) for image in self._images]
        return resampled("mAP", _quality(self._images), len(alone), unit="share", scores=alone)


def _match(found: Detections, boxes: Tensor, labels: Tensor) -> dict[int, _Matched]:
    """Each detection, the surest first, takes the object that it covers most and nobody has."""
    matched = {}
    for label in torch.cat([found.labels.cpu(), labels]).unique().tolist():
        mine = found.labels.cpu() == label
        given, objects = found.boxes.cpu()[mine], boxes[labels == label]
        scores = found.scores.cpu()[mine]
        order = scores.argsort(descending=True, stable=True)
        overlaps = box_iou(given[order], objects).numpy() if len(objects) else None
        right = np.zeros((len(THRESHOLDS), len(given)), bool)
        for row, threshold in enumerate(THRESHOLDS):
            free = np.ones(len(objects), bool)
            for place in range(len(given) if overlaps is not None else 0):
                assert overlaps is not None
                best = np.where(free, overlaps[place], -1)
                if len(best) and best.max() >= threshold:
                    free[best.argmax()] = False
                    right[row, place] = True
        matched[int(label)] = _Matched(scores[order].double().numpy(), right, len(objects))
    return matched


def _quality(images: list[dict[int, _Matched]]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Maps weights (R, N) of the images to mean average precisions (R,)."""
    classes = sorted({label for image in images for label in image})
    sorted_classes = []
    for label in classes:
        here = [(place, image[label]) for place, image in enumerate(images) if label in image]
        objects = np.zeros(len(images))
        for place, one in here:
            objects[place] = one.objects
        if not objects.sum():
            continue
        places = np.concatenate([np.full(len(one.scores), place) for place, one in here])
        scores = np.concatenate([one.scores for _, one in here])
        right = np.concatenate([one.right for _, one in here], 1)
        order = np.argsort(-scores, kind="stable")
        sorted_classes.append((objects, places[order], right[:, order]))

    def quality(weights: NDArray[Any]) -> NDArray[Any]:
        sums, there = np.zeros(len(weights)), np.zeros(len(weights))
        for objects, places, right in sorted_classes:
            wanted = weights @ objects
            counts = weights[:, places]
            some = wanted > 0  # a resample may have no object of a class
            for row in right:
                sums += np.where(some, _precision(counts, row, np.maximum(wanted, 1e-12)), 0)
            there += some * len(right)
        means: NDArray[Any] = sums / np.maximum(there, 1)
        return means

    return quality


def _precision(counts: NDArray[Any], right: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """Average precision at 101 recalls of detections (D,) that count ``counts`` (R, D) times."""
    if not counts.shape[1]:
        return np.zeros(len(counts))
    hits, all_counted = np.cumsum(counts * right, 1), np.cumsum(counts, 1)
    precision = hits / np.maximum(all_counted, 1e-12)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    recall = hits / wanted[:, None]
    found = np.empty(len(counts))
    for row in range(len(counts)):
        places = np.searchsorted(recall[row], _RECALLS - 1e-12, side="left")
        reached = places < counts.shape[1]
        found[row] = precision[row, places[reached]].sum() / len(_RECALLS)
    return found


def _alone(image: dict[int, _Matched]) -> float:
    if not any(one.objects for one in image.values()):
        return float(not any(len(one.scores) for one in image.values()))
    return float(_quality([image])(np.ones((1, 1)))[0])
