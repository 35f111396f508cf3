"""Augmentation: what is random follows from seed, epoch and batch; targets move with the image."""

import copy
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder.data import LoaderSplit
from bitladder.data.splits import TensorSplit
from bitladder.errors import TrainingError
from bitladder.options import TrainOptions
from bitladder.tasks import Task, find
from bitladder.training import fit
from bitladder.training.augment import Augmented
from small_network import Branches, split

SIDE = 16


def batches(images, target, size=4):
    return TensorSplit(images, target).batches(size, shuffle_seed=3)


def augmented(task, images, target, name="standard", seed=0, epoch=0, size=4):
    given = batches(images, target, size)
    found = Augmented(given, name, find(task), seed)
    found.sampler.set_epoch(epoch)
    order = torch.cat(given.indices())
    return found, order


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function of the user's, by its source."""

    def write(source):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "own_augment", raising=False)
        head = "import torch, random, numpy\nfrom torchvision.transforms import v2\n"
        (tmp_path / "own_augment.py").write_text(head + source)
        return "own_augment:make"

    return write


def pixels(count=8):
    """Images (N, 3, 16, 16): the column, the row, and the number of the image."""
    column = torch.arange(SIDE).expand(SIDE, SIDE).float() / SIDE
    number = torch.arange(count).float()[:, None, None].expand(count, SIDE, SIDE)
    return torch.stack([column.expand(count, -1, -1), column.T.expand(count, -1, -1), number], 1)


def test_the_same_in_every_run_and_another_in_every_epoch_batch_and_image():
    images, labels = pixels(), torch.arange(8)

    def drawn(**settings):
        found, order = augmented("classification", images, labels, **settings)
        everything = list(found)
        assert torch.equal(torch.cat([target for _, target in everything]), order)
        return torch.cat([inputs for inputs, _ in everything])

    first = drawn()
    assert torch.equal(first, drawn())
    assert not torch.equal(first, drawn(seed=1))
    assert not torch.equal(first.sum(0), drawn(epoch=1).sum(0))
    shifts = {tuple(image[:2].flatten().tolist()) for image in first}
    assert len(shifts) > 4  # each image by itself


def test_the_random_state_of_the_caller_stays():
    states = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    found, _ = augmented("classification", pixels(), torch.arange(8))
    list(found)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == [random.getstate(), np.random.get_state()[1].tolist()]


def test_standard_shifts_by_at_most_an_eighth_and_mirrors_half():
    images = pixels(64)
    found, _ = augmented("classification", images, torch.zeros(64, dtype=torch.int64), size=64)
    [(changed, _)] = list(found)
    middle = changed[:, :2, SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1] * SIDE
    mirrored = middle[:, 0, 0, 1] < middle[:, 0, 0, 0]
    assert 20 <= int(mirrored.sum()) <= 44
    shifts = middle[:, :, 0, 0] - (SIDE // 2 - 1)
    shifts[mirrored, 0] -= 1
    assert set(shifts[:, 1].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert set(shifts[:, 0].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert changed.min() >= 0
    assert torch.equal(changed[:, 2].amax((1, 2)), changed[:, 2].amin((1, 2)))  # no seams


def test_masks_move_with_their_images():
    images = pixels()
    masks = (images[:, 0] * SIDE).long() + 100 * (images[:, 1] * SIDE).long()
    found, _ = augmented("segmentation", images, masks.clamp(max=254))
    for inputs, target in found:
        expected = (inputs[:, 0] * SIDE).round().long() + 100 * (inputs[:, 1] * SIDE).round().long()
        assert torch.equal(target, expected.clamp(max=254))
        assert type(target) is torch.Tensor
        assert target.dtype == torch.int64


def test_wanted_images_move_with_theirs_and_of_another_size_are_refused():
    images = pixels()
    found, _ = augmented("restoration", images, images.clone())
    for inputs, target in found:
        assert torch.equal(inputs, target)
        assert type(target) is torch.Tensor
    found, _ = augmented("restoration", images, torch.zeros(8, 3, 32, 32))
    with pytest.raises(TrainingError, match="32x32 does not move with one of 16x16"):
        list(found)


def test_boxes_move_with_their_images():
    """Every box holds one bright patch, found again after the move."""
    images = torch.zeros(32, 3, SIDE, SIDE)
    targets = []
    for row, image in enumerate(images):
        x, y = 2 + row % 8, 1 + row % 11
        image[:, y : y + 3, x : x + 4] = 1
        boxes = torch.tensor([[x, y, x + 4, y + 3]]).float()
        targets.append({"boxes": boxes, "labels": torch.tensor([row % 3])})
    found, order = augmented("detection", images, targets, size=32)
    [(inputs, moved)] = list(found)
    kept = 0
    for image, target, row in zip(inputs, moved, order.tolist(), strict=True):
        ys, xs = image[0].nonzero().unbind(1)
        if not len(target["boxes"]):
            continue
        kept += 1
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert target["boxes"].tolist() == [[float(side) for side in box]]
        assert target["labels"].tolist() == targets[row]["labels"].tolist()
        assert type(target["boxes"]) is torch.Tensor
    assert kept > 28


class Own(Task):
    name = "own"

    def loss(self, outputs, target):
        return outputs["output"].square().mean()

    def meter(self):
        raise NotImplementedError


def test_standard_is_refused_where_nobody_knows_how_targets_move(own):
    images = pixels()
    found = Augmented(batches(images, torch.zeros(8, 2)), "standard", Own(), 0)
    with pytest.raises(TrainingError, match="task 'own' does not say how its targets move"):
        list(found)
    name = own("def make():\n    return lambda image, target: (image.flip(-1), target + 1)\n")
    for inputs, target in Augmented(batches(images, torch.zeros(8, 2)), name, Own(), 0):
        assert torch.equal(target, torch.ones(4, 2))
        assert torch.equal(inputs[:, 0], images[:4, 0].flip(-1))


def test_standard_is_for_images_and_functions_for_all(own):
    signals = torch.rand(8, 2, 30)
    found = Augmented(batches(signals, torch.arange(8)), "standard", find("classification"), 0)
    with pytest.raises(TrainingError, match=r"one input of images \(C, H, W\)"):
        list(found)
    name = own("def make():\n    return lambda signal, target: (-signal, target)\n")
    for inputs, target in Augmented(
        batches(signals, torch.arange(8)), name, find("classification"), 0
    ):
        assert torch.equal(inputs, -signals[target])


def test_several_inputs_go_together(own):
    left, right = torch.rand(4, 1, 8, 8), torch.rand(4, 3)
    loader = DataLoader(TensorDataset(left, right, torch.arange(4)), batch_size=2)
    given = [((a, b), target) for a, b, target in loader]
    name = own(
        "def make():\n    return lambda both, target: ((both[0].flip(-1), both[1] + 1), target)\n"
    )
    found = list(Augmented(given, name, find("classification"), 0))
    assert torch.equal(torch.cat([inputs[0] for inputs, _ in found]), left.flip(-1))
    assert torch.equal(torch.cat([inputs[1] for inputs, _ in found]), right + 1)


def test_a_function_gets_what_v2_expects(own):
    name = own("def make():\n    return v2.RandomHorizontalFlip(p=1)\n")
    images = pixels()
    masks = (images[:, 0] * SIDE).long()
    labels = masks[:, 0, 0]
    for task, target in (
        ("segmentation", masks), ("restoration", images), ("classification", labels)
    ):  # fmt: skip
        found, order = augmented(task, images, target, name)
        [first, second] = list(found)
        assert torch.equal(torch.cat([first[0], second[0]]), images[order].flip(-1))
        expected = target[order] if task == "classification" else target[order].flip(-1)
        assert torch.equal(torch.cat([first[1], second[1]]), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def make(image):\n    return image\n", "called without arguments and returns"),
        ("def make():\n    return 3\n", "it returned a int, not a transform"),
        ("def make():\n    1 / 0\n", "division by zero"),
        ("other = 1\n", "has no attribute 'make'"),
        ("def make():\n    return lambda image: image\n", "positional argument"),
        ("def make():\n    return lambda image, t: image\n", r"not a pair \(image, target\)"),
        ("def make():\n    return v2.Resize(8)\n", r"\(3, 16, 16\) became .*\(3, 8, 8\)"),
        (
            "def make():\n    return v2.ToDtype(torch.float64)\n",
            r"of float32 .* became one of float64",
        ),
        ("def make():\n    return lambda i, t: (i.numpy(), t)\n", "became one of a ndarray"),
        ("def make():\n    return lambda i, t: (i, 0.5)\n", "a label must be an int, not 0.5"),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line(source, message, own):
    with pytest.raises(TrainingError, match=message) as caught:
        list(augmented("classification", pixels(), torch.arange(8), own(source))[0])
    assert "own_augment:make" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
def test_randomness_of_any_library_is_seeded(kind, own):
    drawn = {"torch": "torch.rand(1).item()", "numpy": "numpy.random.rand()",
             "python": "random.random()"}[kind]  # fmt: skip
    name = own(f"def make():\n    return lambda i, t: (i * 0 + {drawn}, t)\n")
    runs = []
    for _ in range(2):
        torch.rand(3), random.random(), np.random.rand()
        found, _ = augmented("classification", pixels(), torch.arange(8), name)
        runs.append(torch.cat([inputs for inputs, _ in found]))
    assert torch.equal(*runs)
    assert len(runs[0].unique()) == 8


# In training.

OPTIONS = TrainOptions(
    epochs=3, batch_size=32, lr=5e-3, schedule="constant", early_stopping=None, amp="off"
)


class Watched(nn.Module):
    """Keeps what it was shown, by whether it was trained on it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.network, self.shown = Branches(), {True: [], False: []}

    def forward(self, images):
        self.shown[self.training].append(images.clone())
        return self.network(images)


def test_only_training_sees_augmented_images(tmp_path):
    train, validation = split(64, 0), split(32, 1)
    model = Watched()
    options = OPTIONS.model_copy(update={"augment": "standard"})
    fit(model, train, validation, options, find("classification"), seed=1, log_dir=tmp_path)
    known = {image.numpy().tobytes() for image in train.float_images(torch.arange(64))}
    trained = [image.numpy().tobytes() for shown in model.shown[True] for image in shown]
    assert sum(image in known for image in trained) < len(trained) / 4
    known = {image.numpy().tobytes() for image in validation.float_images(torch.arange(32))}
    assert {one.numpy().tobytes() for shown in model.shown[False] for one in shown} == known


def test_a_resumed_run_draws_the_same(tmp_path):
    """Broken off in the second epoch."""
    options = OPTIONS.model_copy(update={"augment": "standard"})

    def run(name, *, stop=None):
        model = Watched()

        def broken(images):
            if model.training and len(model.shown[True]) == stop:
                raise KeyboardInterrupt
            return Watched.forward(model, images)

        model.forward = broken
        settings = {"seed": 1, "log_dir": tmp_path / name, "checkpoint": tmp_path / f"{name}.ckpt"}
        fit(model, split(64, 0), None, options, find("classification"), **settings)
        return model

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("broken", stop=3)
    again = run("broken")
    assert len(again.shown[True]) < len(whole.shown[True])
    for first, second in zip(
        whole.network.state_dict().values(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second)


def test_quantize_trains_on_augmented_images_and_calibrates_on_plain_ones(own):
    images = split(64, 0).float_images(torch.arange(64))
    loader = DataLoader(TensorDataset(images, split(64, 0).targets), batch_size=16)
    torch.manual_seed(0)
    model = Branches().eval()
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max", "images": 64}}]
    mirror = own("def make():\n    return v2.RandomHorizontalFlip(p=1)\n")
    plain = {"finetune": {"steps": 2, "lr": 1e-4}}
    tuned = {"finetune": {**plain["finetune"], "augment": mirror}}
    before = copy.deepcopy(model.state_dict())
    found = [
        bitladder.quantize(model, images, 8, [*recipe, *more], training=loader, progress=False)
        for more in ([tuned], [plain])
    ]
    assert found[0].rungs[2].sqnr == found[1].rungs[2].sqnr  # calibrated alike
    states = [one.state_dict() for one in found]
    assert not all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [(6, 6), (9, 30), (1, 8)])
def test_standard_takes_images_of_any_size(size):
    images = torch.rand(8, 1, *size)
    for inputs, _ in augmented("classification", images, torch.arange(8))[0]:
        assert inputs.shape[1:] == (1, *size)


def test_what_the_caller_gave_is_not_written_to(own):
    name = own("def make():\n    return lambda image, mask: (image.mul_(0), mask.mul_(0))\n")
    images, masks = pixels(), torch.ones(8, SIDE, SIDE, dtype=torch.int64)
    given = [(images, masks)]
    [(inputs, target)] = list(Augmented(given, name, find("segmentation"), 0))
    assert inputs.count_nonzero() == target.count_nonzero() == 0
    assert torch.equal(images, pixels())
    assert masks.min() == 1


def test_loaders_of_the_caller_are_augmented_anew_in_every_pass():
    images, labels = pixels(), torch.arange(8)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    task = find("classification")
    found = Augmented(LoaderSplit(loader, task).batches(4), "standard", task, 0)
    passes = [torch.cat([inputs for inputs, _ in found]) for _ in range(2)]
    assert not torch.equal(*passes)


def test_v2_images_are_wrapped(own):
    name = own(
        "def make():\n"
        "    def change(image, target):\n"
        "        assert type(image).__name__ == 'Image', type(image)\n"
        "        return image, target\n"
        "    return change\n"
    )
    for inputs, _ in augmented("classification", pixels(), torch.arange(8), name)[0]:
        assert type(inputs) is torch.Tensor
