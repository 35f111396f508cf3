"""Folding keeps the float function, in float64 to rounding, and leaves alone what it must."""

import copy

import pytest
import torch
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from torch import nn

from bitladder import models, quantize, techniques
from bitladder.options import FoldBatchNorm, ModelOptions, Precision
from bitladder.simulation import note_ranks, prepare
from bitladder.techniques.fold_batch_norm import fold_batch_norm


def _lively(model):
    """Batch norms with statistics of their own; everything in float64, evaluation mode."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
    return model.double().eval()


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3),
    "no bias": nn.Conv2d(4, 6, 3, bias=False, padding=1),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2),
    "grouped transposed": nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_norm_after_a_convolution(name):
    layer = CONVOLUTIONS[name]
    model = _lively(nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()))
    images = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    folded, count = fold_batch_norm(model)
    assert count == 1
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_before_a_convolution_that_does_not_pad(groups):
    model = _lively(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=groups)))
    images = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    folded, count = fold_batch_norm(model)
    assert count == 1
    assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_beside_a_linear_layer(affine):
    values = torch.randn(5, 4, dtype=torch.float64)
    for layers in (
        [nn.Linear(4, 6), nn.BatchNorm1d(6, affine=affine)],
        [nn.BatchNorm1d(4, affine=affine), nn.Linear(4, 6, bias=False)],
    ):
        model = _lively(nn.Sequential(*layers))
        folded, count = fold_batch_norm(model)
        assert count == 1
        assert torch.allclose(folded(values), model(values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tokens", [5, 4])
@pytest.mark.parametrize("behind", [True, False])
def test_a_norm_over_tokens_is_no_norm_over_the_channels_of_a_linear_layer(tokens, behind):
    layers = [nn.Linear(4, 4), nn.BatchNorm1d(tokens)]
    model = _lively(nn.Sequential(nn.Flatten(2), *(layers if behind else reversed(layers))))
    prepared = prepare(model)
    note_ranks(prepared, (torch.randn(2, tokens, 2, 2),))
    folded, count = fold_batch_norm(prepared)
    assert count == 0
    images = torch.randn(3, tokens, 2, 2, dtype=torch.float64)
    assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "recipe", [["fold_batch_norm", "calibrate"], ["calibrate", "reestimate_batch_norm"]]
)
def test_a_network_with_as_many_tokens_as_channels_keeps_its_function(recipe):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(2), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Flatten())
    model = _lively(model).float()
    images = torch.randn(16, 4, 2, 2)
    model[2].momentum = None  # statistics are those of the images, which re-estimation takes
    model[2].reset_running_stats()
    model.train()(images)
    wanted = model.eval()(images)
    quantized = quantize(model, images, "w8a16", recipe)
    assert float((quantized(images) - wanted).abs().max() / wanted.abs().max()) < 0.02


class Shared(nn.Module):
    """The convolution's output is read beside the norm, so folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.layer(x)
        return x + self.norm(x)


class Twice(nn.Module):
    """One convolution and one norm, used twice."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.layer(self.norm(self.layer(x))))


@pytest.mark.parametrize(
    "model",
    [Shared(), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))],
    ids=["read elsewhere", "before padding"],
)
def test_a_norm_that_cannot_be_folded_is_left_alone(model):
    model = _lively(model)
    images = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    folded, count = fold_batch_norm(model)
    assert count == 0
    assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


def test_a_norm_that_is_used_twice_is_folded_twice():
    model = _lively(Twice())  # preparing gives each use a module of its own
    images = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    folded, count = fold_batch_norm(model)
    assert count == 2
    assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


def test_a_whole_network_keeps_its_function_and_is_not_changed(network, images):
    model = network.double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded, count = fold_batch_norm(model)
    assert count == 3
    assert torch.allclose(folded(images.double()), model(images.double()), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_weights_and_biases_are_those_of_aimet_s_own_fold():
    layers = [
        [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        [nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()],
        [nn.ConvTranspose2d(8, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()],
        [nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        [nn.Linear(4, 5), nn.BatchNorm1d(5)],
    ]
    model = _lively(nn.Sequential(*[layer for part in layers for layer in part])).float()
    theirs = prepare(model)
    assert len(fold_all_batch_norms(theirs, (2, 3, 7, 7))) == 5
    ours, count = fold_batch_norm(model)
    assert count == 5
    expected = dict(theirs.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == expected.keys()
    for name, value in ours.named_parameters():
        assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"])
def test_the_networks_of_the_report_keep_their_function(name):
    model = models.build(ModelOptions(name=name), classes=10, shapes=[(1, 32, 32)], seed=1)
    model = _lively(model)
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    folded, count = fold_batch_norm(copy.deepcopy(model))
    assert count == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    expected = model(images)
    assert torch.allclose(
        folded(images), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())
    )


def test_what_stays_is_told():
    layers = nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3, padding=1)
    model = _lively(nn.Sequential(*layers)).float()
    context = techniques.Context(Precision(8, 8), (torch.zeros(1, 4, 7, 7),), model)
    techniques.apply(FoldBatchNorm(), model, context)
    assert context.notes == [
        "0 batch norms folded",
        "1 batch norms stay: no layer beside them could take them",
    ]


def test_a_batch_norm_of_images_without_a_layer_becomes_a_convolution():
    model = _lively(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)))
    images = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    context = techniques.Context(Precision(8, 8), (images.float(),), model)
    made = techniques.apply(FoldBatchNorm(), model, context)
    assert context.notes == [
        "0 batch norms folded",
        "1 batch norms without a layer became depthwise convolutions",
    ]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    with torch.no_grad():
        assert torch.allclose(made(images), model.eval()(images), atol=1e-12)
