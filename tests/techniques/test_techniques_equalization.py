"""Equalization and high-bias fold against their definitions and AIMET's own scaling."""

import copy

import pytest
import torch
from aimet_torch.cross_layer_equalization import CrossLayerScaling
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitladder import models
from bitladder.options import ModelOptions
from bitladder.techniques.cross_layer_equalization import cross_layer_equalization
from bitladder.techniques.fold_batch_norm import fold_batch_norm
from bitladder.techniques.high_bias_fold import high_bias_fold
from bitladder.techniques.pairs import (
    columns,
    expected_output,
    find_pairs,
    rows,
    statistics,
)
from bitladder.techniques.relu6_to_relu import relu6_to_relu


def _layer(kind, inputs, outputs):
    return {
        "plain": lambda: nn.Conv2d(inputs, outputs, 3, padding=1),
        "pointwise": lambda: nn.Conv2d(inputs, outputs, 1),
        "depthwise": lambda: nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs),
        "transposed": lambda: nn.ConvTranspose2d(inputs, outputs, 2, stride=2),
    }[kind]()


@st.composite
def chains(draw):
    """A float64 chain of 2 to 5 layers, ReLUs between them, weights of uneven channels."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    kinds = draw(st.lists(st.sampled_from(["plain", "pointwise", "depthwise", "transposed"]),
                          min_size=2, max_size=5))  # fmt: skip
    layers, channels = [], 3
    for kind in kinds:
        layer = _layer(kind, channels, draw(st.integers(2, 5)))
        layer.weight.data *= torch.logspace(-1, 1, layer.weight.shape[0]).view(-1, 1, 1, 1)
        channels = layer.out_channels
        layers += [layer, nn.ReLU()] if draw(st.booleans()) else [layer]
    return nn.Sequential(*layers).double().eval()


@settings(max_examples=25, deadline=None)
@given(chains())
def test_the_function_is_kept_and_ranges_become_equal(model):
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    equalized, count = cross_layer_equalization(model, tolerance=1e-6)
    expected = model(images)
    largest = float(expected.abs().max())
    assert torch.allclose(equalized(images), expected, rtol=1e-9, atol=1e-9 * largest)
    pairs = list(find_pairs(equalized))
    assert len(pairs) == count >= 1
    for pair in pairs:
        first, second = (equalized.get_submodule(name) for name in (pair.first, pair.second))
        made = rows(first).flatten(1).abs().amax(1)
        read = columns(second).flatten(1).abs().amax(1)
        assert torch.allclose(made, read, rtol=1e-3)


def test_a_channel_that_is_all_zero_is_left_alone():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)).eval()
    model[0].weight.data[1] = 0
    equalized, _ = cross_layer_equalization(model)
    assert all(torch.isfinite(value).all() for value in equalized.state_dict().values())


def test_what_another_layer_reads_too_is_no_pair(network):
    folded, _ = fold_batch_norm(network)
    swapped, _ = relu6_to_relu(folded)
    assert [(pair.first, pair.second, pair.relu) for pair in find_pairs(swapped)] == [
        ("depthwise.0", "pointwise.0", True)
    ]
    assert list(find_pairs(folded)) == []  # ReLU6 does not pass scales on


def test_resnet18_is_scaled_as_by_aimet():
    model = models.build(ModelOptions(name="resnet18"), classes=10, shapes=[(1, 32, 32)], seed=1)
    folded, _ = fold_batch_norm(model.eval())
    ours, count = cross_layer_equalization(folded)
    theirs = copy.deepcopy(folded)
    assert len(CrossLayerScaling.scale_model(theirs, dummy_input=torch.rand(1, 1, 32, 32))) == count
    expected = dict(theirs.named_parameters())
    for name, value in ours.named_parameters():
        assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-6), name


def test_statistics_are_scaled_with_the_layer():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)
    ).eval()
    model[1].weight.data = torch.tensor([1.0, -2.0, 3.0])
    model[1].bias.data = torch.tensor([0.5, 1.0, -1.0])
    folded, _ = fold_batch_norm(model)
    before = statistics(folded)["0"]
    assert torch.equal(before.mean, torch.tensor([0.5, 1.0, -1.0]))
    assert torch.equal(before.deviation, torch.tensor([1.0, 2.0, 3.0]))
    equalized, _ = cross_layer_equalization(folded)
    scale = folded.get_submodule("0").bias / equalized.get_submodule("0").bias
    after = statistics(equalized)["0"]
    assert torch.allclose(after.mean * scale, before.mean, rtol=1e-4)
    assert torch.allclose(after.deviation * scale, before.deviation, rtol=1e-4)


def _high(padding):
    """A network whose middle activations are far above zero, as its batch norm says."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 2, 3, padding=padding),
    ).double().eval()  # fmt: skip
    model[1].bias.data = torch.tensor([9.0, 0.0, 6.0, -3.0]).double()
    return model


def test_high_biases_are_absorbed_and_the_function_is_kept_where_they_are_passed():
    folded, _ = fold_batch_norm(_high(0))
    absorbed, count = high_bias_fold(folded)
    assert count == 2
    difference = folded.get_submodule("0").bias - absorbed.get_submodule("0").bias
    assert torch.allclose(difference, torch.tensor([6.0, 0.0, 3.0, 0.0]).double())
    assert torch.allclose(statistics(absorbed)["0"].mean, torch.tensor([3.0, 0, 3, -3]).double())
    images = 0.5 * torch.randn(4, 1, 6, 6, dtype=torch.float64)
    middle = nn.functional.relu(folded.get_submodule("0")(images))
    assert (middle[:, 0] > 6).all()  # nothing falls below what was absorbed
    assert (middle[:, 2] > 3).all()
    assert torch.allclose(absorbed(images), folded(images), rtol=1e-12, atol=1e-12)


def test_padding_layers_are_left_alone_unless_asked():
    folded, _ = fold_batch_norm(_high(1))
    assert high_bias_fold(folded)[1] == 0
    absorbed, count = high_bias_fold(folded, padded=True)
    assert count == 2
    images = 0.5 * torch.randn(2, 1, 6, 6, dtype=torch.float64)
    inner = (absorbed(images) - folded(images))[:, :, 1:-1, 1:-1]
    assert inner.abs().max() < 1e-12
    assert (absorbed(images) - folded(images)).abs().max() > 0.1


LAYERS = [
    nn.Linear(4, 6),
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, 3, groups=2, dilation=2),
    nn.Conv2d(4, 4, 3, groups=4),
    nn.ConvTranspose2d(4, 6, 1, groups=2),
    nn.ConvTranspose2d(4, 6, 2, stride=2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_expected_output_is_the_mean_over_images(layer):
    torch.manual_seed(0)
    layer, means = copy.deepcopy(layer).double(), torch.randn(4, dtype=torch.float64)
    shape = (1, 4) if isinstance(layer, nn.Linear) else (1, 4, 8, 8)
    outputs = layer(means.view(1, 4, *[1] * (len(shape) - 2)).expand(shape))
    expected = outputs.movedim(1, 0).flatten(1).mean(1) - layer.bias
    found = expected_output(layer, layer.weight, means)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.5, 4))
def test_high_bias_fold_changes_the_function_only_below_what_it_absorbed(seed, deviations):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1)
    ).double().eval()  # fmt: skip
    nn.init.uniform_(model[1].bias, -4, 8)
    nn.init.uniform_(model[1].weight, 0.2, 2)
    folded, _ = fold_batch_norm(model)
    absorbed, _ = high_bias_fold(folded, deviations=deviations)
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    first = folded.get_submodule("0")
    height = first.bias - absorbed.get_submodule("0").bias
    mean, deviation = model[1].bias, model[1].weight.abs()
    assert torch.allclose(height, (mean - deviations * deviation).clamp(min=0), atol=1e-12)
    reached = (first(images) >= height.view(1, -1, 1, 1)) | (height.view(1, -1, 1, 1) == 0)
    same = torch.isclose(absorbed(images), folded(images), rtol=1e-9, atol=1e-9).all(1)
    assert same[reached.all(1)].all()


def test_nothing_is_absorbed_into_a_transposed_convolution():
    model = _high(0)
    model[3] = nn.ConvTranspose2d(4, 2, 2, stride=2).double()
    folded, _ = fold_batch_norm(model)
    assert high_bias_fold(folded, padded=True)[1] == 0


@pytest.mark.parametrize(("name", "pairs"), [("mobilenet_v2", 37), ("shufflenet_v2_x0_5", 36)])
def test_the_networks_of_the_report_keep_their_function(name, pairs):
    model = models.build(ModelOptions(name=name), classes=10, shapes=[(1, 32, 32)], seed=1)
    swapped, _ = relu6_to_relu(fold_batch_norm(model.double().eval())[0])
    equalized, count = cross_layer_equalization(swapped)
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    expected = swapped(images)
    assert count == pairs
    assert torch.allclose(
        equalized(images), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())
    )
