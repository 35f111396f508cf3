"""AdaRound and sequential MSE: on the grid, nearer to the float outputs, repeatable."""

import pytest
import torch

from bitladder import techniques
from bitladder.options import Adaround, Precision, SequentialMse, parse_recipe
from bitladder.simulation import sqnr
from small_network import only_output


def _calibrated(network, images, precision="w3a16"):
    context = techniques.Context(Precision.parse(precision), (images,), network, seed=3)
    model = network
    for technique in parse_recipe(["fold_batch_norm", {"calibrate": {"method": "min_max"}}]):
        model = techniques.apply(technique, model, context)
    return model.eval(), context


def _layer(model, name="depthwise.0"):
    layer = model.module.get_submodule(name)
    return layer, layer.param_quantizers["weight"]


def test_adaround_rounds_up_or_down_and_comes_nearer_to_the_float_network(network, images):
    model, context = _calibrated(network, images)
    float_logits = only_output(network, images)
    before = sqnr(float_logits, only_output(model, images))
    ranges = [quantizer.get_scale().clone() for _, quantizer in model.quantizers()]
    layer, quantizer = _layer(model)
    weight, step = layer.weight.detach().clone(), quantizer.get_scale().detach()

    rounded = techniques.apply(Adaround(iterations=1500), model, context)

    assert rounded is model
    assert sqnr(float_logits, only_output(model, images)) > before
    after = [quantizer.get_scale() for _, quantizer in model.quantizers()]
    assert all(torch.equal(*pair) for pair in zip(ranges, after, strict=True))
    assert "of the weights of 4 layers rounded the other way" in context.notes[-1]
    integers = layer.weight.detach() / step
    assert (integers - integers.round()).abs().max() < 1e-3
    moved = (layer.weight.detach() - weight).abs() / step
    assert moved.max() < 1 + 1e-3
    assert moved.max() > 0.5  # some went the farther way
    with torch.no_grad():
        assert torch.allclose(quantizer(layer.weight), layer.weight, atol=1e-6)


def test_the_seed_repeats_adaround_and_leaves_the_callers_random_numbers(network, images):
    weights = []
    for _ in range(2):
        model, context = _calibrated(network, images)
        torch.manual_seed(5)
        techniques.apply(Adaround(iterations=50), model, context)
        drawn = torch.rand(1)
        weights.append(_layer(model)[0].weight.detach().clone())
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(*weights)


def test_sequential_mse_sets_ranges_that_keep_the_outputs(network, images):
    torch.manual_seed(0)
    with torch.no_grad():  # outliers, so that ranges matter
        network.pointwise[0].weight.copy_(torch.randn(8, 8, 1, 1) ** 3)
        network.head.weight.copy_(torch.randn(4, 16) ** 3)
    model, context = _calibrated(network, images)
    float_logits = only_output(network, images)
    before = sqnr(float_logits, only_output(model, images))
    activations = [q.get_max().clone() for i, q in model.quantizers() if i.kind != "weight"]
    techniques.apply(SequentialMse(images=128), model, context)
    assert sqnr(float_logits, only_output(model, images)) > before
    after = [q.get_max() for i, q in model.quantizers() if i.kind != "weight"]
    assert all(torch.equal(*pair) for pair in zip(activations, after, strict=True))
    assert context.notes[-1] == "4 weight ranges from 112 images"


@pytest.mark.parametrize("count", [1, 15, 67, 101])
def test_sequential_mse_takes_any_number_of_images(network, images, count):
    model, context = _calibrated(network, images)
    context.calibration = (images[:count],)
    techniques.apply(SequentialMse(images=count, candidates=2), model, context)
    assert "4 weight ranges from" in context.notes[-1]


def test_ranges_can_be_trained_and_found_anew_after_sequential_mse(network, images):
    model, context = _calibrated(network, images)
    techniques.apply(SequentialMse(images=64), model, context)
    layer, quantizer = _layer(model)
    model(images).square().sum().backward()
    assert quantizer.max.grad is not None
    before = quantizer.get_max().clone()
    with torch.no_grad():
        layer.weight.mul_(3)
        with quantizer.compute_encodings():
            quantizer(layer.weight)
    assert not torch.equal(before, quantizer.get_max())
