"""What is amiss with a data set is said in one line, and nothing where nothing is."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bitladder.data import ImageData, load
from bitladder.data.findings import examine
from bitladder.data.findings.outliers import far_images
from bitladder.data.splits import TensorSplit
from bitladder.options import DatasetOptions, LoaderOptions


def _pictures(count, seed, channels=1, side=32):
    """Blobs of light, each at its own place: images that differ, as photographs do."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side]
    images = np.zeros((count, channels, side, side))
    for image in images:
        for _ in range(12):
            row, column, width = *chance.uniform(0, side, 2), chance.uniform(2, 6)
            blob = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))
            image += chance.uniform(0.1, 1, (channels, 1, 1)) * blob
    images /= images.max((1, 2, 3), keepdims=True)
    return torch.from_numpy((255 * images).round().astype(np.uint8))


def _data(train, validation, labels=None, normalization=None):
    first, last = labels or (torch.arange(len(train)) % 4, torch.arange(len(validation)) % 4)
    splits = TensorSplit(train, first, normalization), TensorSplit(validation, last, normalization)
    return ImageData("set", 4, (tuple(train.shape[1:]),), *splits, None, "")


@pytest.fixture(scope="module")
def train():
    return _pictures(200, 1)


@pytest.fixture(scope="module")
def validation():
    return _pictures(60, 2)


def test_nothing_is_said_of_images_that_are_in_order(train, validation):
    assert list(examine(_data(train, validation))) == []


def test_nothing_is_said_of_the_embedded_images():
    images = load(DatasetOptions(name="embedded"), LoaderOptions(), seed=1)
    assert list(examine(images)) == []


def test_the_same_image_in_both_splits_is_found(train, validation):
    shared = validation.clone()
    shared[[3, 7]] = train[[100, 5]]
    [found] = examine(_data(train, shared))
    assert found.startswith("set: 2 of 60 validation images are training images, 2 exactly (")
    assert "(numbers 3, 7)" in found


def test_an_image_that_was_encoded_again_is_found_in_a_normalized_set(train, validation):
    shared = validation.clone()
    file = io.BytesIO()
    Image.fromarray(train[9, 0].numpy()).save(file, "JPEG", quality=85)
    shared[11, 0] = torch.from_numpy(np.array(Image.open(file)))
    assert not torch.equal(shared[11], train[9])
    normal = torch.tensor(0.3).view(1, 1, 1), torch.tensor(0.2).view(1, 1, 1)
    [found] = examine(_data(train, shared, normalization=normal))
    assert "1 of 60 validation images are training images, 1 nearly (numbers 11)" in found


def test_blank_and_foreign_images_are_far_from_the_rest(train, validation):
    odd = train.clone()
    odd[4] = 0
    [found] = examine(_data(odd, validation))
    assert "1 of 200 training images are far from the rest, 1 of them blank (numbers 4)" in found
    similar = (train // 16) + 100  # of one brightness and one contrast
    similar[8] = 255 * (torch.arange(32) % 2)
    [found] = examine(_data(similar, validation // 16 + 100))
    assert "1 of 200 training images are far from the rest, in brightness" in found


def test_grey_images_among_coloured_ones_are_counted():
    train, validation = _pictures(100, 1, 3), _pictures(40, 2, 3)
    assert list(examine(_data(train, validation))) == []
    train[:30] = train[:30, :1]
    [found] = examine(_data(train, validation))
    assert "30 of 100 training images are grey in a network for colours" in found
    [found] = examine(_data(train[:30], validation))
    assert "read them as one channel" in found


def test_labels_that_are_distributed_otherwise_are_told(train, validation):
    uneven = torch.arange(200) % 4, torch.zeros(60, dtype=torch.int64)
    [found] = examine(_data(train, validation, uneven))
    assert "labels differ between the splits by 75 % of the images; class 0 is 25.0 %" in found


@pytest.mark.parametrize("seed", range(5))
def test_labels_drawn_from_one_distribution_are_not_told(train, validation, seed):
    torch.manual_seed(seed)
    labels = torch.randint(4, (200,)), torch.randint(4, (60,))
    assert list(examine(_data(train, validation, labels))) == []


def test_a_class_of_another_brightness_is_not_far_from_the_rest():
    chance = torch.Generator().manual_seed(0)
    levels = torch.tensor([0.2, 0.8]).repeat(60).reshape(-1, 1, 1, 1)
    pixels = levels + 0.01 * torch.rand(120, 1, 8, 8, generator=chance)
    flat = pixels.flatten(1)
    means, deviations = flat.mean(1), flat.std(1)
    sample = SimpleNamespace(count=120, name="training", means=means, deviations=deviations)
    assert far_images(sample) is None
