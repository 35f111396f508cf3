"""Ranges: clipped where that costs least, of the kind that the config or the recipe says."""

import pytest
import torch

from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, prepare
from bitladder.simulation.ranges import entropy_range, set_output_range
from bitladder.tasks import find
from bitladder.techniques.fold_batch_norm import fold_batch_norm

TASK = find("classification")
METHODS = ["sqnr", "mse", "entropy", "percentile", "min_max"]


def _simulate(network, precision, images, **options):
    folded, _ = fold_batch_norm(network)
    model = SimulatedModel(
        folded, Precision.parse(precision), shapes=[(1, 12, 12)], options=Calibrate(**options)
    )
    model.calibrate(images, TASK)
    return model.eval()


def _weights(model):
    return [(info, q) for info, q in model.quantizers() if info.kind == "weight"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["w8a8", "w4a4", "w2a3"])
def test_every_method_gives_a_finite_range_around_zero(network, images, method, precision):
    model = _simulate(network, precision, images, method=method)
    for info, quantizer in model.quantizers():
        low, high = quantizer.get_min(), quantizer.get_max()
        assert torch.isfinite(low).all(), info
        assert (low <= 0).all()
        assert (high >= 0).all()
        assert (low < high).all()
    assert torch.isfinite(model(images)).all()


def test_min_max_ranges_contain_every_value_and_others_clip(network, images):
    seen = {}

    def keep(quantizer, given, output):
        seen[quantizer] = given[0].detach().as_subclass(torch.Tensor)

    widths = {}
    for method in METHODS:
        model = _simulate(network, "w8a8", images, method=method, outputs="method")
        for info, quantizer in model.quantizers():
            handle = quantizer.register_forward_hook(keep)
            model(images)
            handle.remove()
            values, step = seen[quantizer], quantizer.get_scale()
            widths.setdefault(method, []).append(
                float((quantizer.get_max() - quantizer.get_min()).mean())
            )
            if method == "min_max" and info.kind != "weight":
                assert values.min() >= quantizer.get_min() - step / 2
                assert values.max() <= quantizer.get_max() + step / 2
    for method in METHODS[:-1]:
        assert sum(widths[method]) < 1.01 * sum(widths["min_max"])


def test_mse_has_the_least_error_of_all_methods(network, images):
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in (network.stem[0], network.depthwise[0], network.pointwise[0], network.head):
            layer.weight.copy_(torch.randn_like(layer.weight) ** 3)  # outliers
    noise = {}
    for method in METHODS:
        model = _simulate(network, "w3a8", images, method=method, weights="per_tensor")
        parts = [
            (q(w) - w).square().sum()
            for info, q in _weights(model)
            for w in [model.module.get_submodule(info.name.split(".param_")[0]).weight]
        ]
        noise[method] = float(sum(parts))
    assert noise["mse"] <= 1.01 * min(noise.values())
    assert noise["mse"] < 0.95 * noise["min_max"]


def test_entropy_keeps_a_uniform_histogram_whole_and_clips_a_lone_outlier():
    edges = torch.linspace(0, 1, 1025)
    assert entropy_range(torch.ones(1024), edges, 256)[1] == pytest.approx(1.0)
    bell = torch.exp(-((edges[1:] * 12) ** 2)) * 1e5
    bell[-1] = 1.0
    low, high = entropy_range(bell.round(), edges, 16)
    assert low == 0
    assert 0.1 <= high < 0.6


def test_logits_keep_their_classes_at_4_bit():
    torch.manual_seed(0)
    logits = torch.randn(500, 10) * 3
    logits[:, 0] -= 60  # a class that never wins, which the squared error cares for most
    from aimet_torch.quantization.affine import QuantizeDequantize

    quantizer = QuantizeDequantize(shape=(), bitwidth=4, symmetric=False)
    quantizer.set_range(logits.min(), logits.max())
    before = (quantizer(logits).argmax(1) == logits.argmax(1)).float().mean()
    with torch.no_grad():
        set_output_range(quantizer, {"output": logits}, ["output"], TASK)
    after = (quantizer(logits).argmax(1) == logits.argmax(1)).float().mean()
    assert after > before + 0.2
    assert after > 0.85


def test_the_simulated_network_uses_it(network, images):
    plain = _simulate(network, "w8a2", images, outputs="method")
    better = _simulate(network, "w8a2", images)
    with torch.no_grad():
        wanted = torch.softmax(network(images), 1)
        losses = [
            float(torch.nn.functional.cross_entropy(model(images), wanted))
            for model in (plain, better)
        ]
    assert losses[1] < losses[0]


def test_the_recipe_says_per_tensor_or_per_channel_and_symmetric_or_not(network, images):
    given = {"method": "min_max"}
    tensor = _simulate(network, "w4a4", images, weights="per_tensor", **given)
    channel = _simulate(network, "w4a4", images, weights="per_channel", **given)
    assert all(info.channels == 1 for info, _ in _weights(tensor))
    assert {info.channels for info, _ in _weights(channel)} == {8, 4}  # the linear layer too
    asymmetric = _simulate(network, "w4a4", images, symmetric_weights=False, **given)
    assert not any(info.symmetric for info, _ in _weights(asymmetric))
    both = _simulate(network, "w4a4", images, symmetric_activations=True, **given)
    assert all(info.symmetric for info, _ in both.quantizers())


def test_edges_are_set_by_the_recipe_as_by_the_precision(network, images):
    by_recipe = _simulate(network, "w4a4", images, edges=8, method="min_max")
    by_precision = _simulate(network, "w4a4-edges8", images, method="min_max")
    with torch.no_grad():
        assert torch.equal(by_recipe(images), by_precision(images))


def test_batch_norms_that_stay_are_rounded_once_with_their_layer(network, images):
    model = SimulatedModel(prepare(network), Precision(4, 4), shapes=[(1, 12, 12)])
    modules = dict(model.module.named_modules())
    for name in ("stem", "depthwise"):
        assert modules[f"{name}.0"].output_quantizers[0] is None
        assert modules[f"{name}.1"].output_quantizers[0] is None
        assert modules[f"{name}.2"].output_quantizers[0] is not None
    assert modules["pointwise.0"].output_quantizers[0] is None
    assert modules["pointwise.1"].output_quantizers[0] is not None
    assert not any("1.param_quantizers" in info.name for info, _ in model.quantizers())
