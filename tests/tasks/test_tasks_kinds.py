"""Tasks: losses and qualities against torchmetrics, hand computations and brute force."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.image import PeakSignalNoiseRatio
from torchvision.ops import box_iou

from bitladder import tasks
from bitladder.errors import DataError, ModelError, StudyError
from bitladder.measurement import Measurement, loss
from bitladder.structures import named
from bitladder.tasks.average_precision import THRESHOLDS, AveragePrecision, Detections

GENERATOR = torch.Generator().manual_seed(0)


def _rand(*shape):
    return torch.rand(shape, generator=GENERATOR)


def test_mean_intersection_over_union_is_torchmetrics():
    task = tasks.find("segmentation")
    logits, masks = torch.randn(12, 4, 9, 7), torch.randint(0, 4, (12, 9, 7))
    masks[:, :2] = 255
    expected = MulticlassJaccardIndex(4, ignore_index=255)(logits, masks)
    meter = task.meter()
    for part in (slice(0, 5), slice(5, 12)):
        meter.update(named(logits[part]), masks[part])
    found = meter.measurement()
    assert found.value == pytest.approx(float(expected), abs=1e-6)
    assert meter.value() == pytest.approx(float(expected), abs=1e-6)
    assert found.low < found.value < found.high
    assert (found.unit, found.count, len(found.scores)) == ("share", 12, 12)


def test_segmentation_counts_only_what_counts():
    task = tasks.find("segmentation")
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    masks[0] = 255
    expected = cross_entropy(logits[1:].double(), masks[1:])
    assert float(task.loss(named(logits), masks)) == pytest.approx(float(expected), rel=1e-6)
    assert task.agreement(named(logits), named(logits)).tolist() == [1.0, 1.0]
    other = logits.clone()
    other[0, :, :2] = -other[0, :, :2]
    flipped = (logits[0, :, :2].argmax(0) != other[0, :, :2].argmax(0)).sum() / 16
    assert float(task.agreement(named(other), named(logits))[0]) == pytest.approx(
        1 - float(flipped)
    )


def test_one_logit_a_pixel_stands_for_two_classes():
    task = tasks.find("segmentation")
    logits, masks = torch.randn(3, 1, 5, 5), torch.randint(0, 2, (3, 5, 5))
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    assert torch.allclose(task.loss(named(logits), masks), task.loss(named(both), masks))
    meters = [task.meter(), task.meter()]
    for meter, given in zip(meters, (logits, both), strict=True):
        meter.update(named(given), masks)
    assert meters[0].value() == meters[1].value()
    assert task.outputs_classes(named(logits)) == 2


def test_torchvisions_outputs_are_read_by_name():
    task = tasks.find("segmentation")
    returned = {"out": torch.randn(2, 3, 4, 4), "aux": torch.randn(2, 3, 4, 4)}
    task.check(named(returned), classes=3)
    with pytest.raises(ModelError, match=r"returns a \(2, 3, 4, 4\), b"):
        task.check(named({"a": returned["out"], "b": returned["aux"]}))


def test_psnr_is_torchmetrics_for_each_image():
    task = tasks.find("restoration")
    images, wanted = _rand(6, 3, 8, 8), _rand(6, 3, 8, 8)
    expected = [
        float(PeakSignalNoiseRatio(data_range=1.0)(one, other))
        for one, other in zip(images, wanted, strict=True)
    ]
    meter = task.meter()
    meter.update(named(images), wanted)
    found = meter.measurement()
    assert np.allclose(found.scores, expected, atol=1e-4)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-4)
    assert found.unit == "dB"
    meter = task.meter()
    meter.update(named(wanted), wanted)
    assert meter.measurement().value == pytest.approx(100)


def _brute_force(found, wanted, classes):
    """COCO's definition, one class, threshold and detection after the other."""
    each = []
    for label in range(classes):
        objects = sum(int((one["labels"] == label).sum()) for one in wanted)
        if not objects:
            continue
        for threshold in THRESHOLDS:
            hits = []
            for one, target in zip(found, wanted, strict=True):
                free = [
                    row for row in range(len(target["labels"])) if target["labels"][row] == label
                ]
                for place in one.scores.argsort(descending=True).tolist():
                    if one.labels[place] != label:
                        continue
                    overlaps = {
                        row: float(box_iou(one.boxes[place][None], target["boxes"][row][None]))
                        for row in free
                    }
                    best = max(overlaps, key=overlaps.get, default=None)
                    right = best is not None and overlaps[best] >= threshold
                    if right:
                        free.remove(best)
                    hits.append((float(one.scores[place]), right))
            hits.sort(key=lambda hit: -hit[0])
            precisions, recalls, right = [], [], 0
            for number, (_, hit) in enumerate(hits, 1):
                right += hit
                precisions.append(right / number)
                recalls.append(right / objects)
            points = [
                max(
                    (p for p, r in zip(precisions, recalls, strict=True) if r >= at - 1e-9),
                    default=0,
                )
                for at in np.linspace(0, 1, 101)
            ]
            each.append(np.mean(points))
    return np.mean(each)


def _scene(count, classes, noise):
    corners = 40 * _rand(count, 2)
    boxes = torch.cat([corners, corners + 8 + 20 * _rand(count, 2)], 1)
    labels = torch.randint(0, classes, (count,), generator=GENERATOR)
    moved = torch.cat([boxes + noise * (_rand(count, 4) - 0.5), boxes[:1] + 30])
    scores = _rand(count + 1)
    order = scores.argsort(descending=True)
    found = Detections(moved[order], scores[order], torch.cat([labels, labels[:1]])[order])
    return found, {"boxes": boxes, "labels": labels}


def test_average_precision_is_cocos_by_brute_force():
    scenes = [_scene(1 + number % 4, 3, 8.0) for number in range(20)]
    found, wanted = map(list, zip(*scenes, strict=True))
    answers = iter([found[:8], found[8:]])
    meter = AveragePrecision(lambda outputs: next(answers))
    meter.update({}, wanted[:8])
    meter.update({}, wanted[8:])
    measured = meter.measurement()
    assert measured.value == pytest.approx(_brute_force(found, wanted, 3), abs=1e-9)
    assert measured.low < measured.value < measured.high
    assert len(measured.scores) == 20


def test_a_detector_that_is_right_has_all_and_one_that_finds_nothing_none():
    task = tasks.find("detection")
    boxes = torch.tensor([[4.0, 4.0, 20.0, 28.0], [30.0, 30.0, 60.0, 50.0]])
    target = [{"boxes": boxes, "labels": torch.tensor([1, 0])}]
    scores, sides = torch.full((1, 2, 8, 8), -9.0), torch.zeros(1, 4, 8, 8)
    for box, label in zip(boxes, target[0]["labels"], strict=True):
        row, column = (int((box[axis] + box[axis + 2]) / 2 // 8) for axis in (1, 0))
        centre = torch.tensor([8 * column + 4.0, 8 * row + 4.0])
        scores[0, label, row, column] = 9.0
        sides[0, :, row, column] = (torch.cat([centre - box[:2], box[2:] - centre]) / 8).log()
    right, nothing = named({"scores": scores, "boxes": sides}), None
    nothing = {**right, "scores": torch.full_like(scores, -9.0)}
    values = []
    for outputs in (right, nothing):
        meter = task.meter()
        meter.update(outputs, target)
        values.append(meter.measurement().value)
    assert values == [pytest.approx(1.0), 0.0]
    assert task.loss(right, target) < task.loss(nothing, target)
    assert task.agreement(right, right).tolist() == [1.0]
    assert task.agreement(nothing, right).tolist() == [0.0]
    assert task.distill(right, right) < task.distill(nothing, right)


def test_every_loss_of_a_task_has_a_gradient_and_falls_along_it():
    cases = {
        "classification": (torch.randn(4, 3), torch.tensor([0, 1, 2, 0])),
        "segmentation": (torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))),
        "restoration": (_rand(2, 1, 4, 4), _rand(2, 1, 4, 4)),
    }
    for name, (output, target) in cases.items():
        task = tasks.find(name)
        given = output.clone().requires_grad_()
        before = task.loss(named(given), target)
        before.backward()
        with torch.no_grad():
            moved = given - 1e-2 * given.grad / given.grad.norm()
        assert task.loss(named(moved), target) < before, name
        teacher = named(output + 1e-3)
        assert task.distill(named(output), teacher) <= task.distill(named(-output), teacher)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("segmentation", 3, r"a mask must be a tensor \(H, W\) of class numbers, not a int"),
        ("segmentation", torch.rand(4, 4), "must be integers, not float32"),
        ("segmentation", torch.full((4, 4), -1), "the label -1 is negative"),
        ("restoration", 3, r"must be a float tensor \(C, H, W\) of 0 to 1, not a int"),
        ("restoration", torch.zeros(4, 4, 4).byte(), "not uint8"),
        ("detection", 3, "a mapping with boxes"),
        ("detection", {"boxes": [[0, 0, 1, 1]], "labels": []}, "1 boxes need as many labels"),
        ("detection", {"boxes": [[5, 0, 1, 1]], "labels": [0]}, "x1 < x2"),
        ("classification", "cat", "the string 'cat'"),
    ],
)
def test_a_target_of_another_task_is_one_line(name, value, message):
    with pytest.raises(DataError, match=message) as caught:
        tasks.find(name).target(value, "item 7")
    assert str(caught.value).startswith("item 7: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segmentatoin", "unknown task 'segmentatoin'; did you mean 'segmentation'"),
        ("no_such_module:Task", "No module named 'no_such_module'"),
        ("collections:OrderedDict", "task 'collections:OrderedDict': it lacks"),
    ],
)
def test_what_is_no_task_is_one_line(name, message):
    with pytest.raises(StudyError, match=message) as caught:
        tasks.find(name)
    assert "\n" not in str(caught.value)


class Angle(tasks.Task):
    """The least that a task of one's own says."""

    name, quality, higher_is_better = "angle", "error", False

    def loss(self, outputs, target):
        return (outputs["output"] - target).square().mean()

    def meter(self):
        def error(outputs, target):
            return (outputs["output"] - target).abs().flatten(1).mean(1)

        return tasks.ScoreMeter("error", error, higher_is_better=False)


def test_a_task_of_ones_own_needs_a_loss_and_a_meter():
    task = tasks.find(Angle())
    wanted = _rand(30, 2)
    measured = []
    for noise in (0.1, 0.2):
        meter = task.meter()
        meter.update(named(wanted + noise), wanted)
        measured.append(meter.measurement())
    assert isinstance(measured[0], Measurement)
    assert measured[1].value == pytest.approx(0.2, abs=1e-6)
    assert loss(*measured).value == pytest.approx(0.1, abs=1e-6)
    assert task.agreement(named(wanted), named(wanted)) is None
    assert task.distill(named(wanted), named(wanted)) == 0
    assert task.batch([torch.tensor([1.0]), torch.tensor([2.0])]).shape == (2, 1)
