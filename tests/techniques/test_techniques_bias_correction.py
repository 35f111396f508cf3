"""Bias correction: no mean error is left on the images, the clipped normal is right."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from bitladder import techniques
from bitladder.errors import QuantizationError
from bitladder.options import BiasCorrection, Precision, parse_recipe
from bitladder.techniques.bias_correction import clipped_normal_mean
from bitladder.techniques.held_out import parted


def _calibrated(network, images, precision="w4a8", weights="per_channel"):
    context = techniques.Context(Precision.parse(precision), (images,), network)
    recipe = parse_recipe(
        ["fold_batch_norm", {"calibrate": {"method": "min_max", "weights": weights}}]
    )
    model = network
    for technique in recipe:
        model = techniques.apply(technique, model, context)
    return model.eval(), context


def _layer_means(model, images, name, *, quantized):
    """Channel means of a layer's output before its own rounding, by a plain forward hook."""
    network = model.module if quantized else model.sim.get_original_model(model.module)
    layer = network.get_submodule(name)
    if quantized:
        before, layer.output_quantizers[0] = layer.output_quantizers[0], None
    seen = []
    handle = layer.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        network(images)
    handle.remove()
    if quantized:
        layer.output_quantizers[0] = before
    return seen[0].double().movedim(1, 0).flatten(1).mean(1)


LAYERS = ["stem.0", "depthwise.0", "pointwise.0", "head"]


@pytest.mark.parametrize("weights", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("precision", ["w4a8", "w3a4", "w8a8"])
def test_no_mean_error_is_left_on_the_images(network, images, precision, weights):
    model, context = _calibrated(network, images, precision, weights)
    [images], _ = parted((images,))
    reference = {name: _layer_means(model, images, name, quantized=False) for name in LAYERS}
    before = {name: _layer_means(model, images, name, quantized=True) for name in LAYERS}
    corrected = techniques.apply(BiasCorrection(method="empirical"), model, context)
    assert corrected is model
    for name in LAYERS:
        error = (_layer_means(model, images, name, quantized=True) - reference[name]).abs().max()
        first = (before[name] - reference[name]).abs().max()
        assert error < 1e-3 * first + 1e-5


def test_other_images_gain_too(network, images, splits):
    model, context = _calibrated(network, images, "w3a8")
    others = splits[1].float_images(torch.arange(128))
    expected = _layer_means(model, others, "head", quantized=False)
    before = (_layer_means(model, others, "head", quantized=True) - expected).abs().mean()
    techniques.apply(BiasCorrection(method="empirical"), model, context)
    after = (_layer_means(model, others, "head", quantized=True) - expected).abs().mean()
    assert after < 0.5 * before


def test_the_float_reference_is_that_from_before_the_correction(network, images):
    model, context = _calibrated(network, images)
    before = {name: value.clone() for name, value in context.reference.state_dict().items()}
    techniques.apply(BiasCorrection(), model, context)
    after = context.reference.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_analytic_correction_of_normal_activations_is_the_empirical_one():
    """Where batch norms tell the truth, both methods find the same error."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1)
    ).eval()
    model[1].bias.data.uniform_(-1, 1)
    images = torch.randn(200, 3, 12, 12)  # normal, so that the first layer's output is, too
    with torch.no_grad():
        made = model[0](images).movedim(1, 0).flatten(1)
        model[1].running_mean.copy_(made.mean(1))
        model[1].running_var.copy_(made.var(1))
    found = {}
    for method in ("analytic", "empirical"):
        simulated, context = _calibrated(model, images, "w3a16")
        before = simulated.module.get_submodule("3").bias.clone()
        techniques.apply(BiasCorrection(method=method), simulated, context)
        found[method] = (simulated.module.get_submodule("3").bias - before).detach()
    # The empirical one also sees that the first layer's weights are rounded.
    correlation = np.corrcoef(found["analytic"].numpy(), found["empirical"].numpy())[0, 1]
    assert correlation > 0.95
    assert found["analytic"].abs().max() > 0.01


def test_auto_takes_batch_norms_where_they_tell_and_images_elsewhere(network, images):
    model, context = _calibrated(network, images)
    techniques.apply(BiasCorrection(), model, context)
    # depthwise reads the stem and pointwise the depthwise layer; stem and head know no input.
    assert context.notes[-1] == (
        "biases of 2 layers corrected from batch norms, of 2 from 112 images"
    )


def test_images_are_needed_only_where_they_are_used(network, images):
    model, context = _calibrated(network, images)
    context.calibration = images[:0]
    techniques.apply(BiasCorrection(method="analytic"), model, context)
    with pytest.raises(QuantizationError, match="no calibration images"):
        techniques.apply(BiasCorrection(), model, context)


@settings(max_examples=40, deadline=None)
@given(st.floats(-5, 5), st.floats(0.05, 4), st.sampled_from([6.0, float("inf")]))
def test_the_mean_of_a_clipped_normal_is_its_integral(mean, deviation, high):
    points = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 400_001)
    density = np.exp(-(((points - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    expected = np.trapezoid(np.clip(points, 0, high) * density, points)
    found = clipped_normal_mean(torch.tensor([mean]).double(), torch.tensor([deviation]).double(),
                                high)  # fmt: skip
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_a_simulated_network_stays_a_traced_one(network, images):
    model, context = _calibrated(network, images)
    assert isinstance(techniques.apply(BiasCorrection(), model, context).module, fx.GraphModule)
