"""What the HTP's kernels compute otherwise than ONNX says, written so that they compute it right.

The reference is each operation in float64; a result may be a step of its grid away, and half a
step of the grid of what it reads.
"""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bitladder import quantize
from bitladder.errors import ExportError
from bitladder.targets import open_target
from small_network import only

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)


def on_the_htp(operation, precision, images, folder):
    """What the HTP gives for an operation on images, and the step of its grid."""
    network = nn.Sequential(operation, nn.Flatten()).eval()
    quantized = quantize(
        network, images, precision, ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    )
    path = quantized.export(folder / "htp.onnx", target="htp")
    session = open_target("htp", path)
    try:
        return only(session.run(images[:4].numpy())), only(session.steps)
    finally:
        session.close()


class Padded(nn.Module):
    """A value around a rectified image."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return F.pad(F.relu(x), (1, 2, 0, 1), value=self.value)


@pytest.fixture
def images():
    return torch.randn(16, 8, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
@pytest.mark.parametrize(
    "operation",
    [
        nn.AvgPool2d(4),
        nn.AvgPool2d((4, 8)),
        nn.AdaptiveAvgPool2d(2),
        nn.AvgPool2d(16),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3)),
        nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, 2)),
    ],
)
def test_averages_of_every_window(operation, precision, images, tmp_path):
    found, step = on_the_htp(operation, precision, images, tmp_path)
    right = operation(images[:4].double()).flatten(1).numpy()
    read = float(images.max() - images.min()) / (2 ** int(precision[3:]) - 1)
    assert np.abs(found - right).max() <= 1.5 * step + 0.5 * read


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
@pytest.mark.parametrize("value", [-9.0, -1.0, 1.5, 10.0])
def test_values_around_an_image_that_its_grid_does_not_reach(value, precision, images, tmp_path):
    network = Padded(value)
    found, step = on_the_htp(network, precision, images, tmp_path)
    right = network(images[:4].double()).flatten(1).numpy()
    read = float(images.max() - images.min()) / (2 ** int(precision[3:]) - 1)
    assert np.abs(found - right).max() <= 1.5 * step + read


def test_a_value_that_is_clamped_before_it_is_rounded_is_refused(images, tmp_path):
    with pytest.raises(ExportError, match="a value around an image that is clamped"):
        on_the_htp(nn.Sequential(Padded(8.0), nn.ReLU6()), "w8a8", images, tmp_path)


@pytest.mark.parametrize("operation", [nn.Sigmoid(), nn.Hardsigmoid()])
def test_results_that_do_not_reach_one(operation, images, tmp_path):
    network = nn.Sequential(nn.Hardtanh(-3.0, -0.5), operation)
    found, step = on_the_htp(network, "w8a16", images, tmp_path)
    right = network(images[:4].double()).flatten(1).numpy()
    assert np.abs(found - right).max() <= 64 * step  # a quarter of a step of 8 bit


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_a_sum_of_products_with_constants(precision, images, tmp_path):
    class Centre(nn.Module):
        def forward(self, x):
            return (x.flatten(2).softmax(-1) * torch.linspace(0, 1, 256).to(x)).sum(-1)

    found, _ = on_the_htp(Centre(), precision, images, tmp_path)
    right = Centre()(images[:4].double()).numpy()
    assert np.abs(found - right).max() <= (0.1 if precision == "w8a8" else 1e-2)


@pytest.mark.parametrize(
    ("function", "precision"),
    [(lambda x: torch.log(x.abs() + 0.1), "w8a16"), (lambda x: 2**x, "w8a8")],
)
def test_what_its_kernels_compute_wrong_is_refused(function, precision, images, tmp_path):
    class Computed(nn.Module):
        def forward(self, x):
            return function(x)

    with pytest.raises(ExportError, match="which the HTP computes wrong"):
        on_the_htp(Computed(), precision, images, tmp_path)


class Gated(nn.Module):
    """An image times a gate a channel, which is expanded first."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True)).expand_as(x)


@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_a_product_with_an_expanded_tensor(precision, images, tmp_path):
    """It was wrong by 111 of 255 steps in 87 % of the values."""
    found, step = on_the_htp(Gated(), precision, images, tmp_path)
    right = Gated()(images[:4].double()).flatten(1).numpy()
    assert np.abs(found - right).max() <= (3 * step if precision == "w8a8" else 150 * step)


def test_powers_of_two_are_finite(images, tmp_path):
    class Power(nn.Module):
        def forward(self, x):
            return torch.relu(torch.exp2(x))

    found, _ = on_the_htp(Power(), "w8a8", images, tmp_path)
    right = Power()(images[:4].double()).flatten(1).numpy()
    assert np.abs(found - right).max() <= 0.05 * right.max()


class Sliced(nn.Module):
    """A part of an image, rectified."""

    def forward(self, x):
        return F.relu6(x[:, :, 1:])


@pytest.mark.parametrize(
    "operation",
    [
        nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Identity(), nn.MaxPool2d(3, 1, 1), nn.Hardtanh(-0.5, 0.7)),
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        Sliced(),
    ],
    ids=["max_relu", "max_hardtanh", "sigmoid", "hardsigmoid", "relu6_of_slice"],
)
def test_a_16_bit_grid_may_change_before_a_convolution(operation, images, tmp_path):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), operation, nn.Conv2d(6, 4, 1)).eval()
    found, step = on_the_htp(network, "w8a16", images, tmp_path)
    right = network.double()(images[:4].double()).flatten(1).detach().numpy()
    # Weights of 8 bit cost some percent of the range; a joined grid is wrong by half of it.
    assert np.abs(found - right).max() < 0.05 * np.ptp(right) + 4 * step
