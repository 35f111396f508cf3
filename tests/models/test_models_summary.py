"""Sizes against the original report, the DLC tools' own counts, and sums done by hand."""

import pytest
import torch
from torch import nn

from bitladder.models import MODELS, build, summarize
from bitladder.options import ModelOptions

GREY = (1, 32, 32)

REPORT = {
    # name: parameters as printed, megabytes as printed
    "resnet18": ("11.2M", 44.727),
    "mobilenet_v2": ("2.2M", 8.947),
    "shufflenet_v2_x0_5": ("352K", None),  # printed 1.558, the size of a float DLC
}

# MACs that Qualcomm's tools report for the 1-channel input (facts measured on written DLCs), and
# the first convolution: its output channels, its kernel area, its output pixels.
DLC = {
    "resnet18": (35_410_944, 64 * 49 * 16 * 16),
    "mobilenet_v2": (5_977_472, 32 * 9 * 16 * 16),
    "shufflenet_v2_x0_5": (704_800, 24 * 9 * 16 * 16),
}


def grey(name):
    return build(ModelOptions(name=name), classes=10, shapes=[GREY], seed=0)


@pytest.mark.parametrize("name", REPORT)
def test_parameters_and_size_are_the_reports(name):
    summary = summarize(name, grey(name), [GREY])
    printed, size = REPORT[name]
    unit = {"M": 1e6, "K": 1e3}[printed[-1]]
    digits = 1 if printed[-1] == "M" else 0
    assert f"{summary.parameters / unit:.{digits}f}{printed[-1]}" == printed
    assert summary.size_mb == summary.parameters * 4 / 1e6
    if size is not None:
        assert round(summary.size_mb, 3) == size


def test_shufflenets_size_is_its_parameters_and_not_what_the_report_printed():
    summary = summarize("s", grey("shufflenet_v2_x0_5"), [GREY])
    assert summary.parameters == 352_045
    assert round(summary.size_mb, 3) == 1.408


def test_the_reports_352k_are_not_shufflenet_x1_0():
    assert summarize("s", grey("shufflenet_v2_x1_0"), [GREY]).parameters == 1_263_857


@pytest.mark.parametrize("name", DLC)
def test_macs_are_the_dlcs_plus_the_shims_share(name):
    # In a DLC the shim is folded away, so the first convolution reads 1 channel in place of 3.
    macs, first_convolution = DLC[name]
    shim = 3 * 32 * 32
    assert summarize(name, grey(name), [GREY]).macs == macs + 2 * first_convolution + shim


def test_macs_by_hand_with_groups_stride_and_a_linear_layer():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),  # 5x5 outputs, 2 channels each
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(200, 10),
    )
    summary = summarize("hand", model, [(4, 10, 10)])
    assert summary.macs == 8 * 25 * 2 * 9 + 200 * 10
    assert summary.parameters == 8 * 2 * 9 + 8 + 200 * 10 + 10


@pytest.mark.parametrize("name", MODELS[:4])
def test_size_does_not_depend_on_the_mode_and_leaves_it(name):
    model = grey(name)
    model.shim.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first = summarize(name, model, [GREY])
    assert model.training
    assert not model.shim.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert summarize(name, model.eval(), [GREY]) == first
