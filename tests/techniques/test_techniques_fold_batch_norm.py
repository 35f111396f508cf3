"""Folding keeps the float function, in float64 to rounding, and leaves alone what it must."""

import pytest
import torch
from torch import nn

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
