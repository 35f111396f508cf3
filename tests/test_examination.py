"""What is amiss with a network and its images: normalization, channels, ranges, calibration."""

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bitladder.cli import app
from bitladder.examination import misfit, ranges

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def pixels():
    """Colours 0 to 1, much red and little blue (N, 3, H, W)."""
    torch.manual_seed(0)
    return torch.rand(64, 3, 8, 8) * torch.tensor([1.0, 0.6, 0.2]).view(3, 1, 1)


def _network(images):
    """A convolution that tells channels apart and a batch norm that has seen these images."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12, momentum=None), nn.ReLU())
    network(images)
    return network.eval()


def _normalized(pixels):
    mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def test_images_that_fit_are_not_told(pixels):
    other = pixels.flip(0)[:32]
    assert misfit(_network(pixels), (other,)) is None
    assert misfit(nn.Conv2d(3, 1, 1), (pixels,)) is None  # it has no batch norm


@pytest.mark.parametrize(
    ("trained", "given", "told"),
    [
        (_normalized, lambda x: x, "with normalize: imagenet they fit"),
        (lambda x: x, _normalized, "without normalize: imagenet they fit"),
        (_normalized, lambda x: _normalized(x).flip(1), "blue, green, red they fit"),
        (lambda x: 255 * x, lambda x: x, "in 0 to 255 they fit"),
    ],
)
def test_another_normalization_or_order_of_channels_is_told_by_what_fits(
    pixels, trained, given, told
):
    found = misfit(_network(trained(pixels)), (given(pixels),))
    assert found is not None
    assert told in found


def test_ranges_that_validation_leaves_are_told_with_how_far():
    network = nn.Sequential(nn.Identity())
    calibration = torch.rand(100, 2, 4, 4)
    calibration[:, :, 0, 0], calibration[:, :, 1, 1] = 0, 1
    assert list(ranges(network, (calibration,), (calibration.flip(0),))) == []
    [found] = ranges(network, (calibration,), (3 * calibration,))
    assert "leaves the calibrated range of 1 layers by more than half, most in 0, by 200 %" in found


def test_channels_that_calibration_never_reached_are_counted():
    calibration = torch.rand(100, 3, 4, 4)
    calibration[:, :, 0, 0] = 1
    validation = calibration.clone()
    calibration[:, 2] = 0
    [found] = ranges(nn.Sequential(nn.ReLU()), (calibration,), (validation,))
    assert found.startswith("1 channels are above zero on validation images and never on")


def test_ranges_that_still_grow_ask_for_more_images():
    images = torch.rand(10, 1, 4, 4)
    images[9] *= 4
    images[9, 0, 0, 0] = 4
    found = list(ranges(nn.Sequential(nn.Identity()), (images,), (images,)))
    assert len(found) == 1
    assert "from 5 to 10 images; give it more" in found[0]


def test_the_doctor_finds_nothing_amiss_with_the_quick_study():
    done = CliRunner().invoke(app, ["doctor", "precisions=[8]"])
    assert done.exit_code == 0
    assert done.output == "nothing is amiss with the data\n"
