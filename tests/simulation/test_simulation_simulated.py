"""The simulated network: bits as asked, values on their grid, files that restore it bit for bit."""

import pytest
import torch
from torch import nn

from bitladder.errors import ModelError, QuantizationError
from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, prepare
from bitladder.techniques.fold_batch_norm import fold_batch_norm

SHAPE = (1, 12, 12)


def _simulate(network, precision, images=None, **settings):
    folded, _ = fold_batch_norm(network)
    simulated = SimulatedModel(
        folded, Precision.parse(precision), shapes=[SHAPE], options=Calibrate(**settings)
    )
    if images is not None:
        simulated.calibrate(images)
    return simulated.eval()


@pytest.mark.parametrize("precision", ["w2a2", "w3a16", "w4a8", "w8a8", "w16a5"])
def test_every_quantizer_has_the_bits_that_were_asked_for(network, images, precision):
    wanted = Precision.parse(precision)
    simulated = _simulate(network, precision, images, method="min_max")
    kinds = set()
    for info, _ in simulated.quantizers():
        kinds.add(info.kind)
        assert info.bits == (wanted.weights if info.kind == "weight" else wanted.activations)
        assert info.integer_max - info.integer_min == 2**info.bits - 1
    assert kinds == {"weight", "input", "output"}
    assert torch.isfinite(simulated(images)).all()


def test_every_layer_has_a_weight_quantizer_and_fused_ones_no_output_quantizer(network, images):
    simulated = _simulate(network, 8, images)
    weights = [info.name for info, _ in simulated.quantizers() if info.kind == "weight"]
    assert len(weights) == 4
    fused = [
        name
        for name, module in simulated.module.named_modules()
        if isinstance(module, nn.Conv2d) and module.output_quantizers[0] is None
    ]
    assert len(fused) == 2  # stem and depthwise stand before a ReLU6; pointwise before the sum


def test_weights_take_only_values_of_their_grid(network, images):
    simulated = _simulate(network, 4, images, method="min_max")
    for info, quantizer in simulated.quantizers():
        if info.kind != "weight":
            continue
        layer = simulated.module.get_submodule(info.name.partition(".param_quantizers")[0])
        quantized = quantizer(layer.weight).detach()
        rows = quantized.flatten(1) if info.channels > 1 else quantized.flatten()[None]
        assert all(len(row.unique()) <= 16 for row in rows)
        again = quantizer(quantized)  # quantizing twice changes nothing
        assert torch.allclose(again, quantized, atol=1e-6)


def test_min_max_ranges_are_those_of_the_images(network, images):
    simulated = _simulate(network, 8, images, method="min_max")
    [(_, quantizer)] = [entry for entry in simulated.quantizers() if entry[0].kind == "input"]
    low, high = min(0.0, float(images.min())), float(images.max())
    step = (high - low) / 255
    assert float(quantizer.min) == pytest.approx(low, abs=step)
    assert float(quantizer.max) == pytest.approx(high, abs=step)


def test_sixteen_bits_are_nearly_the_float_network(network, images):
    simulated = _simulate(network, 16, images, method="min_max")
    with torch.no_grad():
        expected = network(images)
        error = (simulated(images) - expected).abs().max()
    assert error < 1e-3 * (expected.max() - expected.min())


def test_edges_are_wider_at_the_image_and_the_logits(network, images):
    simulated = _simulate(network, "w4a4-edges8", images, method="min_max")
    wide = {info.name for info, _ in simulated.quantizers() if info.bits == 8}
    narrow = {info.name for info, _ in simulated.quantizers() if info.bits == 4}
    assert len(wide) == 5  # input, first and last weight, the last layer's input, the logits
    assert any(name.startswith("head") for name in wide)
    assert not any(name.startswith("head") for name in narrow)
    assert sum("param_quantizers" in name for name in narrow) == 2


@pytest.mark.parametrize("precision", ["w8a8", "w2a3", "w4a4-edges8"])
def test_a_file_restores_outputs_bit_for_bit(network, images, precision, tmp_path):
    simulated = _simulate(network, precision, images, method="min_max")
    simulated.save(tmp_path / "s.safetensors")
    other = _simulate(type(network)(), precision)
    other.restore(tmp_path / "s.safetensors")
    with torch.no_grad():
        assert torch.equal(other(images), simulated(images))


def test_a_file_of_another_network_or_recipe_is_refused(network, images, tmp_path):
    _simulate(network, 8, images).save(tmp_path / "s.safetensors")
    unfolded = SimulatedModel(prepare(network), Precision(8, 8), shapes=[SHAPE])
    with pytest.raises(QuantizationError, match="network and recipe that it was saved from"):
        unfolded.restore(tmp_path / "s.safetensors")


def test_gradients_reach_weights_and_ranges(network, images):
    simulated = _simulate(network, 4, images, method="min_max").train()
    simulated(images).square().sum().backward()
    assert simulated.module.head.weight.grad.abs().sum() > 0
    ranges = [quantizer.max.grad for info, quantizer in simulated.quantizers()]
    assert all(gradient is not None for gradient in ranges)
    assert any(float(gradient.abs().sum()) > 0 for gradient in ranges)


def test_a_simulated_network_is_not_copied(network, images):
    import copy

    with pytest.raises(TypeError, match="not copied"):
        copy.deepcopy(_simulate(network, 8, images))


def test_an_unknown_config_is_told(network):
    with pytest.raises(QuantizationError, match="config 'htp_v999'"):
        _simulate(network, 8, config="htp_v999")


class Undecided(nn.Module):
    """Its control flow depends on the values of its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return self.layer(x)
        return x


def test_what_cannot_be_traced_is_told_with_its_line():
    with pytest.raises(ModelError) as raised:
        prepare(Undecided())
    assert "cannot trace Undecided" in str(raised.value)
    assert "test_simulation_simulated.py:" in str(raised.value)
    assert "if x.sum() > 0:" in str(raised.value)


def test_preparing_changes_neither_the_network_nor_its_function(network, images):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(prepare(network)(images), network(images))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
