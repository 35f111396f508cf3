"""What is said of each layer, against what a person would measure with hooks."""

import math

import pytest
import torch

from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, layers, sensitivity, sqnr
from bitladder.simulation.isolate import only_quantizers
from bitladder.tasks import find
from bitladder.techniques.fold_batch_norm import fold_batch_norm


@pytest.fixture
def simulated(network, images):
    folded, _ = fold_batch_norm(network)
    options = Calibrate(method="min_max")
    model = SimulatedModel(folded, Precision(3, 5), shapes=[(1, 12, 12)], options=options)
    model.calibrate(images)
    return model.eval()


def test_sqnr_is_the_ratio_of_powers_in_decibels():
    assert sqnr(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])) == pytest.approx(20.0)
    assert sqnr(torch.ones(2), torch.ones(2)) == math.inf
    assert sqnr(torch.zeros(2), torch.ones(2)) == -math.inf


def test_with_every_quantizer_off_the_network_is_the_float_one(simulated, network, images):
    before = simulated(images)
    with only_quantizers(simulated.module, []):
        assert torch.allclose(simulated(images), network(images), atol=1e-5)
    assert torch.equal(simulated(images), before)


def test_weights_noise_and_ranges_are_those_of_the_quantizers(simulated, images):
    found = {(row.name, row.kind): row for row in layers(simulated, images)}
    assert len(found) == len(list(simulated.quantizers()))
    layer = simulated.module.get_submodule("stem.0")
    row = found["stem.0", "weight"]
    assert row.bits == 3
    assert len(row.lowest) == 8
    weight = layer.weight.detach().flatten(1)
    step = torch.maximum(weight.amax(1) / 3, -weight.amin(1) / 4)  # integers -4 ... 3
    rounded = (layer.weight / step.view(-1, 1, 1, 1)).round().clamp(-4, 3) * step.view(-1, 1, 1, 1)
    assert row.sqnr == pytest.approx(sqnr(layer.weight, rounded), rel=1e-3)
    assert row.highest == pytest.approx((3 * step).tolist(), rel=1e-4)
    image = found["stem.0", "input"]
    step = (image.highest[0] - image.lowest[0]) / 31
    rounded = (images / step).round().clamp(0, 31) * step
    assert image.sqnr == pytest.approx(sqnr(images, rounded), rel=1e-3)
    assert layers(simulated)[0].sqnr is None or layers(simulated)[0].kind == "weight"


def test_sensitivity_is_the_network_with_one_quantizer(simulated, network, images):
    labels = torch.arange(128) % 4
    rows = sensitivity(simulated, images, labels, find("classification"))
    assert [row.sqnr for row in rows] == sorted(row.sqnr for row in rows)
    row = next(row for row in rows if (row.name, row.kind) == ("depthwise.0", "weight"))
    folded, _ = fold_batch_norm(network)
    layer = folded.get_submodule("depthwise.0")
    with torch.no_grad():
        reference = folded(images)
        quantizer = simulated.module.get_submodule("depthwise.0").param_quantizers["weight"]
        layer.weight.copy_(quantizer(layer.weight))
        logits = folded(images)
    assert row.sqnr == pytest.approx(sqnr(reference, logits), abs=0.05)
    assert row.quality.value == float((logits.argmax(1) == labels).double().mean())
    assert row.quality.count == len(labels)
    assert row.agreement == float((logits.argmax(1) == reference.argmax(1)).double().mean())
