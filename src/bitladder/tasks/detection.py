"""Boxes with classes, by dense heads without anchors: a score a class and four distances a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision import tv_tensors
from torchvision.ops import batched_nms, box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from bitladder.errors import DataError, ModelError
from bitladder.structures import Outputs
from bitladder.tasks.average_precision import AveragePrecision, Detections
from bitladder.tasks.targets import kind
from bitladder.tasks.task import Task

_LEAST_SCORE, _CANDIDATES, _MOST = 0.05, 1000, 100
_OVERLAP = 0.5  # intersection over union above which the weaker box of a class goes
_SURE = 0.3  # score from which a box counts in agreements


class Detection(Task):
    """See ``Task``. The quality is COCO's mean average precision, over IoU 0.5 to 0.95.

    A network returns, for each level, ``scores`` (N, classes, H, W), logits, and ``boxes``
    (N, 4, H, W): the distances from a cell's centre to the left, top, right and bottom side in
    units of the level's stride, as FCOS has them (Tian 2019, arXiv 1904.01355, without
    centre-ness). One level has these names; several have ``scores_0``, ``boxes_0`` and so on, which
    is what ``{"scores": [...], "boxes": [...]}`` becomes. Distances are made positive by an
    exponential. A target is ``{"boxes": (K, 4), "labels": (K,)}``, boxes as x1, y1, x2, y2 in
    pixels, as in torchvision.

    For other heads, subclass it and give ``predictions`` and ``loss``.

    Attributes:
        strides: pixels a cell, of each level.
    """

    name = "detection"
    quality = "mAP"
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See ``Task.check``."""
        levels = _levels(outputs)
        if classes is not None and levels[0][0].shape[1] < classes:
            raise ModelError(f"has scores of {levels[0][0].shape[1]} classes where {classes} are")
        if target is not None:
            self.batched(target, len(levels[0][0]), "targets", levels[0][0].shape[1])

    def classes(self, targets: list[Any]) -> int:
        """One more than the largest label."""
        found = [int(one["labels"].max()) for one in targets if len(one["labels"])]
        if not found:
            raise DataError("no image has a box; give at least one")
        return 1 + max(found)

    def outputs_classes(self, outputs: Outputs) -> int:
        """The channels of the scores."""
        return int(_levels(outputs)[0][0].shape[1])

    def target(self, value: Any, where: str) -> dict[str, Tensor]:
        """Boxes (K, 4) in pixels and labels (K,), counted from 0."""
        if not isinstance(value, Mapping) or not {"boxes", "labels"} <= value.keys():
            raise DataError(
                f"{where}: a target must be a mapping with boxes (K, 4) and labels (K,), not "
                f"{kind(value)}"
            )
        boxes = torch.as_tensor(value["boxes"], dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(value["labels"])
        if labels.shape != (len(boxes),) or labels.is_floating_point() or (labels < 0).any():
            raise DataError(
                f"{where}: {len(boxes)} boxes need as many labels, whole numbers from 0, not "
                f"{tuple(labels.shape)}"
            )
        if not torch.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise DataError(f"{where}: boxes are x1, y1, x2, y2 with x1 < x2 and y1 < y2")
        return {"boxes": boxes, "labels": labels.long()}

    def batch(self, targets: list[Any]) -> list[Any]:
        """One mapping an image."""
        return list(targets)

    def batched(
        self, value: Any, count: int, where: str, classes: int | None = None
    ) -> list[dict[str, Tensor]]:
        """One mapping an image."""
        if not isinstance(value, list | tuple) or len(value) != count:
            raise DataError(f"{where}: {count} images need a list of as many targets")
        found = [self.target(one, f"{where}, image {place}") for place, one in enumerate(value)]
        if classes is not None and any((one["labels"] >= classes).any() for one in found):
            raise DataError(f"{where}: a label is none of the network's {classes} classes")
        return found

    def movable(self, target: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """See ``Task.movable``."""
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        return {**target, "boxes": boxes}

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """Focal loss of the scores and GIoU loss of the boxes, each a cell that has an object."""
        scores, boxes, centres, strides = self._cells(outputs)
        wanted, sides, chosen = self._assigned(target, centres, strides, scores.shape[2])
        objects = chosen.sum().clamp(min=1)
        focal: Tensor = sigmoid_focal_loss(scores, wanted.to(scores), reduction="sum") / objects
        if not chosen.any():
            return focal
        apart = generalized_box_iou_loss(boxes[chosen], sides.to(boxes)[chosen], reduction="sum")
        found: Tensor = focal + apart / objects
        return found

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """Cross-entropy with the teacher's scores, and GIoU loss to its boxes by their scores."""
        scores, boxes, _, _ = self._cells(outputs)
        wanted, sides, _, _ = self._cells(teacher)
        likely = wanted.sigmoid()
        weight = likely.amax(2)
        apart = generalized_box_iou_loss(boxes.flatten(0, 1), sides.flatten(0, 1), reduction="none")
        told = binary_cross_entropy_with_logits(scores, likely)
        found: Tensor = told + (apart * weight.flatten()).sum() / weight.sum().clamp(min=1)
        return found

    def meter(self) -> AveragePrecision:
        """Mean average precision."""
        return AveragePrecision(self.predictions)

    @torch.no_grad()
    def predictions(self, outputs: Outputs) -> list[Detections]:
        """The boxes of each image, the surest first, without those that another one covers."""
        scores, boxes, _, _ = self._cells(outputs)
        found = []
        for likely, sides in zip(scores.sigmoid(), boxes, strict=True):
            best, place = likely.flatten().topk(min(_CANDIDATES, likely.numel()))
            place = place[best > _LEAST_SCORE]
            best = best[best > _LEAST_SCORE]
            cells, labels = place // likely.shape[1], place % likely.shape[1]
            kept = batched_nms(sides[cells], best, labels, _OVERLAP)[:_MOST]
            found.append(Detections(sides[cells][kept], best[kept], labels[kept]))
        return found

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """The share of the surer boxes of both that the other one has, too (Dice)."""
        pairs = zip(self.predictions(outputs), self.predictions(reference), strict=True)
        return torch.tensor([_alike(one, other) for one, other in pairs], dtype=torch.float64)

    def _cells(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of all levels: logits (N, M, classes), boxes (N, M, 4), centres (M, 2), strides (M,)."""
        scores, boxes, centres, strides = [], [], [], []
        for (level, sides), stride in zip(_levels(outputs), self.strides, strict=False):
            height, width = level.shape[2:]
            y = (torch.arange(height, device=level.device) + 0.5) * stride
            x = (torch.arange(width, device=level.device) + 0.5) * stride
            middle = torch.cartesian_prod(y, x).flip(1)
            reach = sides.flatten(2).movedim(1, 2).clamp(max=8).exp() * stride
            scores.append(level.flatten(2).movedim(1, 2))
            boxes.append(torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], 2))
            centres.append(middle)
            strides.append(torch.full((len(middle),), float(stride), device=level.device))
        return torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(centres), torch.cat(strides)

    def _assigned(
        self, target: Any, centres: Tensor, strides: Tensor, classes: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Wanted scores (N, M, classes), boxes (N, M, 4) and which cells have an object (N, M).

        A cell has the smallest box that its centre lies in, near the box's own centre (1.5
        strides) and on the level whose reach suits the box; FCOS, section 3.
        """
        levels = set(strides.tolist())
        wanted = torch.zeros(len(target), len(centres), classes)
        sides = torch.zeros(len(target), len(centres), 4)
        chosen = torch.zeros(len(target), len(centres), dtype=torch.bool)
        centres, strides = centres.cpu(), strides.cpu()
        for image, one in enumerate(target):
            boxes, labels = one["boxes"].cpu(), one["labels"].cpu()
            if not len(boxes):
                continue
            apart = torch.cat([centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]], 2)
            near = (centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(2)
            inside = (apart.amin(2) > 0) & (near < 1.5 * strides[:, None])
            reach = apart.amax(2)
            if len(levels) > 1:
                lower = torch.where(strides == strides.min(), 0, 4 * strides)
                upper = torch.where(strides == strides.max(), torch.inf, 8 * strides)
                inside &= (reach > lower[:, None]) & (reach <= upper[:, None])
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(centres), -1)
            least, which = torch.where(inside, area, torch.inf).min(1)
            chosen[image] = torch.isfinite(least)
            sides[image] = boxes[which]
            cells = chosen[image].nonzero().flatten()
            wanted[image, cells, labels[which[cells]]] = 1
        return wanted, sides, chosen


def _alike(one: Detections, other: Detections) -> float:
    one, other = one.above(_SURE), other.above(_SURE)
    if not len(one.scores) or not len(other.scores):
        return float(len(one.scores) == len(other.scores))
    same = one.labels[:, None] == other.labels
    near = (box_iou(one.boxes, other.boxes) >= _OVERLAP) & same
    return float(near.any(1).sum() + near.any(0).sum()) / (len(one.scores) + len(other.scores))


def _levels(outputs: Outputs) -> list[tuple[Tensor, Tensor]]:
    """Scores and boxes of each level.

    Raises:
        ModelError: the outputs are others.
    """
    names = [name for name in outputs if name.startswith("scores")]
    found = [(outputs[name], outputs.get(name.replace("scores", "boxes", 1))) for name in names]
    fits = all(
        boxes is not None
        and scores.dim() == boxes.dim() == 4
        and boxes.shape[1] == 4
        and scores.shape[2:] == boxes.shape[2:]
        for scores, boxes in found
    )
    if not found or not fits or 2 * len(found) != len(outputs):
        returned = ", ".join(f"{name} {tuple(one.shape)}" for name, one in outputs.items())
        raise ModelError(
            f"returns {returned or 'no tensor'}, not scores (N, classes, H, W) and boxes "
            "(N, 4, H, W) a level; for other heads give a task of your own"
        )
    return [(scores, boxes) for scores, boxes in found if boxes is not None]
