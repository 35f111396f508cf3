"""The story of data-free quantization (Nagel et al. 2019, table 1) on a small MobileNetV2."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import mobilenet_v2

from bitladder import data, quantize
from bitladder.options import DatasetOptions, LoaderOptions, TrainOptions
from bitladder.tasks import find
from bitladder.techniques.relu6_to_relu import relu6_to_relu
from bitladder.training import evaluate, fit
from small_network import only_output

SCALING = [
    "fold_batch_norm",
    "cross_layer_equalization",
    "high_bias_fold",
    {"calibrate": {"weights": "per_tensor", "method": "min_max"}},
    "bias_correction",
]


@pytest.fixture(scope="module")
def images():
    options = DatasetOptions(name="embedded", train=4000, validation=1000)
    return data.load(options, LoaderOptions(), seed=1)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A MobileNetV2 of a quarter of the width, trained for some epochs on real images."""
    torch.manual_seed(1)
    network = mobilenet_v2(num_classes=10, width_mult=0.25, dropout=0.0)
    network.features[0][0] = nn.Conv2d(1, 8, 3, stride=1, padding=1, bias=False)
    network, _ = relu6_to_relu(network)  # ReLU6 would clip what is scaled up
    options = TrainOptions(epochs=5, batch_size=64, lr=5e-3, early_stopping=None, validate_every=1)
    fit(
        network,
        images.train,
        images.validation,
        options,
        find("classification"),
        seed=1,
        log_dir=tmp_path_factory.mktemp("log"),
        classes=10,
    )
    return network


def _scale_apart(network):
    """Make a channel larger where it is made and smaller where it is read, by up to 100 times."""
    generator = torch.Generator().manual_seed(1)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm, reader in zip(norms[1:], layers[2:], strict=False):  # the first is also added
            if reader.groups == 1:
                continue
            scale = 10 ** (4 * torch.rand(norm.num_features, generator=generator) - 2)
            norm.weight.mul_(scale)
            norm.bias.mul_(scale)
            reader.weight.div_(scale.view(-1, 1, 1, 1))


def test_scaled_apart_it_loses_everything_and_equalization_brings_it_back(images, trained):
    calibration = data.calibration_images(images, 500)
    batches = list(images.validation.batches(250))
    parts = (torch.cat(part) for part in zip(*batches, strict=True))
    validation = DataLoader(TensorDataset(*parts), batch_size=250)
    whole = evaluate(trained, validation, find("classification")).value
    before = only_output(trained, calibration)
    _scale_apart(trained)
    assert torch.allclose(only_output(trained, calibration), before, atol=1e-2)
    assert whole > 0.7

    plain = quantize(trained, calibration, 8, [SCALING[0], SCALING[3]], validation=validation)
    repaired = quantize(trained, calibration, 8, SCALING, validation=validation)

    rungs = {rung.technique: rung.quality.value for rung in repaired.rungs}
    print(f"float {whole}, plain {plain.rungs[-1].quality}", rungs)
    assert plain.rungs[-1].quality.value < 0.5 * whole
    assert rungs["fold_batch_norm"] == pytest.approx(whole, abs=0.003)
    assert rungs["cross_layer_equalization"] == pytest.approx(whole, abs=0.003)
    assert rungs["bias_correction"] > whole - 0.01
