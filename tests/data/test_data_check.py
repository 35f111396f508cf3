"""Batches that a caller gives: one line each where they cannot be used; no batch of one image."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from bitladder.data.splits import DatasetSplit, LoaderSplit, TensorSplit
from bitladder.errors import DataError, QuantizationError
from bitladder.ladder import gather
from bitladder.tasks import find
from bitladder.training.batches import trainable

TASK = find("classification")
GOOD = torch.rand(4, 3, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0])


def _nan():
    images = GOOD.clone()
    images[2, 1, 3, 3] = float("nan")
    return images


class _Fails:
    def __iter__(self):
        yield GOOD, LABELS
        raise OSError("the disk\nis gone")


class _Endless(IterableDataset):
    def __iter__(self):
        return iter([(GOOD[0], 0)])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (_nan(), "calibration: pixels that are NaN"),
        ([GOOD, _nan()], "calibration, batch 1: pixels that are NaN"),
        ([GOOD / 0], "NaN or infinite"),
        (GOOD[0, 0, 0], r"must be \(N, C, H, W\), not of shape \(8,\)"),
        ([GOOD[0, 0, 0]], r"batch 0: images must be \(N, C, H, W\)"),
        ((GOOD * 255).byte(), r"not uint8; give image.float\(\) / 255"),
        (np.zeros((4, 3, 8, 8), np.int16), "not int16"),
        (GOOD.permute(0, 2, 3, 1), "channels last"),
        ([GOOD, torch.rand(4, 3, 9, 9)], "batch 1: an image of 3x9x9 where the first is 3x8x8"),
        (["a.png", "b.png"], "not the string 'a.png'"),
        ("images", "not the string 'images'"),
        (5, "not a int"),
        (None, "not None"),
        ({"x": GOOD}, "not a dict"),
        ([{"x": GOOD}], "not a dict"),
        ([None], "not None"),
        ([], "there are no images"),
        (GOOD[:0], "there are no images"),
        (_Fails(), "OSError: is gone"),
        (DataLoader(TensorDataset(_nan()), 2), "batch 1: pixels that are NaN"),
    ],
)
def test_calibration_images_that_cannot_be_used_are_one_line(images, message):
    with pytest.raises(QuantizationError, match=message) as raised:
        gather(images, 8)
    assert "\n" not in str(raised.value)


def test_labels_of_any_whole_type_are_taken():
    for labels in (
        LABELS,
        LABELS.int(),
        LABELS.byte(),
        LABELS > 0,
        LABELS.tolist(),
        LABELS.numpy(),
    ):
        [(_, found)] = LoaderSplit([(GOOD, labels)], TASK, "training", 3).batches(4)
        assert found.dtype == torch.int64
        assert torch.equal(found, torch.as_tensor(labels).long())


def test_calibration_images_are_taken_as_they_are():
    for given in (GOOD, GOOD.numpy(), [GOOD], [(GOOD, LABELS)], [[GOOD, LABELS]], GOOD.double()):
        [found] = gather(given, 3)
        assert torch.equal(found, GOOD[:3])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((GOOD, torch.eye(3)[LABELS]), r"shape \(4,\), not \(4, 3\); take labels.argmax\(1\)"),
        ((GOOD, LABELS[:, None]), r"not \(4, 1\); take labels\[:, 0\]"),
        ((GOOD, LABELS.float()), r"not float32; give labels.long\(\)"),
        ((GOOD, LABELS - 1), "the label -1 is negative"),
        ((GOOD, LABELS + 1), "the label 3 is none of the network's 3 classes"),
        ((GOOD, LABELS[:3]), r"shape \(4,\), not \(3,\)"),
        ((GOOD, ("cat", "dog", "cow", "cat")), "labels are strings"),
        ((GOOD, None), "must be integers"),
        ((_nan(), LABELS), "NaN"),
        (("a", LABELS), "not the string 'a'"),
        ((GOOD, LABELS, LABELS), r"must be \(images, labels\), not 3 values"),
        (GOOD, r"must be \(images, labels\), not a Tensor"),
        ({"x": GOOD, "y": LABELS}, "not a mapping with x, y"),
    ],
)
def test_labelled_batches_that_cannot_be_used_are_one_line(batch, message):
    split = LoaderSplit([(GOOD, LABELS), batch], TASK, "training", 3)
    with pytest.raises(DataError, match=message) as raised:
        list(split.batches(2))
    assert str(raised.value).startswith("training, batch 1: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "there are no images"),
        (5, "give batches, such as a DataLoader"),
        (_Fails(), "OSError: is gone"),
        (
            DataLoader([(torch.rand(3, 8, 8), 0), (torch.rand(3, 9, 9), 0)], 2),
            "images must have one size",
        ),
    ],
)
def test_a_loader_that_cannot_be_read_is_one_line(loader, message):
    with pytest.raises(DataError, match=message) as raised:
        list(LoaderSplit(loader, TASK, "validation").batches(2))
    assert "\n" not in str(raised.value)


def test_a_loader_without_a_length_is_told():
    batches = LoaderSplit(DataLoader(_Endless()), TASK, "training").batches(2)
    assert len(list(batches)) == 1
    with pytest.raises(DataError, match="training: its length is not known"):
        len(batches)


def _splits(images):
    pixels = torch.arange(images)[:, None, None, None].expand(-1, 1, 2, 2).byte()
    labels = torch.zeros(images, dtype=torch.long)
    dataset = TensorDataset(pixels.float() / 255, labels)
    return [
        TensorSplit(pixels, labels),
        DatasetSplit(dataset, tuple(range(images)), 0, "made", TASK),
        LoaderSplit(DataLoader(dataset, 4), TASK),
        LoaderSplit(DataLoader(dataset, 4, shuffle=True), TASK),
    ]


@pytest.mark.parametrize("images", [1, 3, 4, 5, 8, 9, 10])
def test_no_batch_to_train_on_is_one_image(images):
    for split in _splits(images):
        batches = trainable(split.batches(4, shuffle_seed=1))
        sizes = [len(labels) for _, labels in batches]
        assert len(sizes) == len(batches)
        assert sum(sizes) == images
        assert sizes == [1] or min(sizes) > 1
        seen = torch.cat([found for found, _ in batches])[:, 0, 0, 0]
        assert (seen * 255).round().int().sort().values.tolist() == list(range(images))


def test_batches_to_measure_with_stay_as_they_are():
    for split in _splits(9):
        assert [len(labels) for _, labels in split.batches(4)] == [4, 4, 1]
        assert len(split.batches(4)) == 3
