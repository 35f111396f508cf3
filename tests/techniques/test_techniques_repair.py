"""Repair: the layers that cost most are widened, as few as the limit needs, and on the target."""

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import bitladder as bl
from bitladder import techniques
from bitladder.errors import QuantizationError, StudyError
from bitladder.options import Precision, parse_recipe

PLAIN = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


def _network(outlier=200.0):
    """Four layers; one weight of the second is so large that 4 bits leave nothing of the rest."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU()]
    layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(8, 4)).eval()
    with torch.no_grad():
        network[2].weight[:, 0] *= outlier / network[2].weight[:, 0].abs().max()
        network[0].weight[0] = 0  # of a channel that is always zero, so that floats do not mind
        network[0].bias[0] = 0
    return network


IMAGES = torch.rand(48, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def _widths(quantized):
    """The widest grid of each layer with a weight."""
    found = {}
    for info, _ in quantized.simulated.quantizers():
        found.setdefault(info.layer, []).append(info.bits)
    return {name: max(bits) for name, bits in found.items()}


def _sqnr(network, run):
    right = network(IMAGES).detach().double().numpy()
    noise = np.square(right - run).sum()
    return 10 * np.log10(np.square(right).sum() / noise)


def test_the_layer_that_costs_most_is_widened_and_the_target_agrees(tmp_path):
    network = _network()
    plain = bl.quantize(network, IMAGES, "w4a8", PLAIN, progress=False)
    recipe = [*PLAIN, {"repair": {"layers": 1, "bits": 16}}]
    repaired = bl.quantize(network, IMAGES, "w4a8", recipe, progress=False)
    assert [name for name, bits in _widths(repaired).items() if bits == 16] == ["2"]
    path = repaired.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    [made] = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    before = _sqnr(network, plain(IMAGES).detach().numpy())
    assert _sqnr(network, made) > before + 3
    note = [line for rung in repaired.rungs for line in rung.notes if "on onnxruntime" in line]
    assert f"{_sqnr(network, made):.1f} dB on onnxruntime" in note[0]


def test_no_layer_that_was_widened_can_be_left_out():
    network, limit = _network(), 25.0
    context = techniques.Context(Precision.parse("w4a4"), (IMAGES,), network)
    model = network
    options = {"min_sqnr": limit, "bits": 8, "target": None}
    for technique in parse_recipe([*PLAIN, {"repair": options}]):
        model = techniques.apply(technique, model, context)
    with torch.no_grad():
        assert _sqnr(network, model(IMAGES).numpy()) >= limit
    wide = {}
    for info, quantizer in model.quantizers():
        if info.bits == 8:
            wide.setdefault(info.layer, []).append(quantizer)
    assert 0 < len(wide) < len({info.layer for info, _ in model.quantizers()})
    for quantizers in wide.values():
        for quantizer in quantizers:
            quantizer.bitwidth = 4
        with torch.no_grad():
            assert _sqnr(network, model(IMAGES).numpy()) < limit
        for quantizer in quantizers:
            quantizer.bitwidth = 8


def test_it_is_saved_and_loaded_with_its_widths(tmp_path):
    recipe = [*PLAIN, {"repair": {"layers": 2, "target": None}}]
    repaired = bl.quantize(_network(), IMAGES, "w4a4", recipe, progress=False)
    repaired.save(tmp_path / "model.safetensors")
    loaded = bl.QuantizedModel.load(tmp_path / "model.safetensors", _network())
    assert _widths(loaded) == _widths(repaired)
    assert torch.equal(loaded(IMAGES), repaired(IMAGES))


def test_agreement_is_kept_on_the_target():
    recipe = [*PLAIN, {"repair": {"min_agreement": 0.95, "bits": 16}}]
    network = _network()
    repaired = bl.quantize(network, IMAGES, "w4a4", recipe, task="classification", progress=False)
    answers = network(IMAGES).argmax(1)
    assert (repaired(IMAGES).argmax(1) == answers).double().mean() >= 0.95


def test_a_limit_that_cannot_be_reached_is_one_line():
    recipe = [*PLAIN, {"repair": {"min_sqnr": 90, "bits": 8, "target": None}}]
    with pytest.raises(QuantizationError, match=r"with every layer at 8 bits .* below min_sqnr 90"):
        bl.quantize(_network(), IMAGES, "w4a4", recipe, progress=False)


def test_agreement_without_a_task_is_one_line():
    recipe = [*PLAIN, {"repair": {"min_agreement": 0.9, "target": None}}]
    with pytest.raises(QuantizationError, match="needs a task"):
        bl.quantize(_network(), IMAGES, "w4a4", recipe, progress=False)


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 1, "min_sqnr": 3}, {"layers": 1, "target": "nowhere"}, {"layers": 0}],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(StudyError):
        parse_recipe([*PLAIN, {"repair": options}])


def test_layers_with_no_narrower_grid_are_left():
    recipe = [*PLAIN, {"repair": {"layers": 3, "bits": 8, "target": None}}]
    repaired = bl.quantize(_network(), IMAGES, "w8a8", recipe, progress=False)
    assert set(itertools.chain(_widths(repaired).values())) == {8}
