"""Networks with any inputs and outputs go the whole way: rungs, files, training, targets."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import bitladder
from bitladder.errors import QuantizationError
from bitladder.structures import named
from bitladder.tasks import ScoreMeter, Task
from shaped_networks import INPUTS, NETWORKS, network

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
PTQ = [
    "fold_batch_norm",
    "cross_layer_equalization",
    {"calibrate": {"images": 32}},
    {"sequential_mse": {"images": 16, "candidates": 4}},
    {"adaround": {"images": 32, "iterations": 5}},
    {"bias_correction": {"images": 32}},
]


class Imitate(Task):
    """The quality is the error against given outputs, whatever the network returns."""

    name, quality, unit, higher_is_better = "imitate", "error", "", False

    def loss(self, outputs, target):
        pairs = zip(outputs.values(), target, strict=True)
        return sum((made - wanted.to(made)).square().mean() for made, wanted in pairs)

    def meter(self):
        return ScoreMeter(self.quality, self._errors, unit=self.unit, higher_is_better=False)

    def _errors(self, outputs, target):
        pairs = zip(outputs.values(), target, strict=True)
        return sum((made - wanted).flatten(1).square().mean(1) for made, wanted in pairs)


def _same_structure(first, second):
    assert type(first) is type(second)
    assert list(named(first)) == list(named(second))
    return zip(named(first).values(), named(second).values(), strict=True)


@pytest.mark.parametrize("precision", ["w8a8", "w4a4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_quantized_written_and_computed_as_simulated(name, precision, tmp_path):
    model, inputs = network(name)
    given = inputs(32)
    quantized = bitladder.quantize(model, given, precision, RECIPE)
    with torch.no_grad():
        wanted, made = model(*given), quantized(*given)
    for one, other in _same_structure(wanted, made):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
    assert quantized.rungs[-1].sqnr.keys() == named(wanted).keys()
    assert min(quantized.rungs[-1].sqnr.values()) > (15 if precision == "w8a8" else 2)

    path = quantized.export(tmp_path / "m.onnx")
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    assert names == INPUTS.get(name, ["x"])
    assert [one.name for one in session.get_outputs()] == list(named(wanted))
    for count in (1, 5, 32):
        some = inputs(count)
        with torch.no_grad():
            expected = named(quantized(*some))
        found = session.run(None, {n: one.numpy() for n, one in zip(names, some, strict=True)})
        for (output, values), got in zip(expected.items(), found, strict=True):
            assert got.shape == values.shape
            apart = np.abs(got - values.numpy())
            size = float(values.abs().max()) / (2 ** int(precision[-1]) - 1)
            assert (apart > 1e-5 * size).mean() < 0.02, output  # ties alone
            assert apart.max() < 2.01 * size, output
    found = bitladder.verify(path, given, simulation=quantized)
    assert found.comparison.equal.count == 32
    assert found.comparison.sqnr.keys() == named(wanted).keys()

    quantized.save(tmp_path / "m.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "m.safetensors", copy.deepcopy(model))
    with torch.no_grad():
        for one, other in _same_structure(quantized(*given), loaded(*given)):
            assert torch.equal(one, other)
    onnx.checker.check_model(onnx.load(path))


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"no_parameters"}))
def test_every_step_of_a_recipe_takes_it_and_training_lowers_its_loss(name):
    model, inputs = network(name)
    given = inputs(64)
    other, _ = network(name, seed=2)
    with torch.no_grad():
        targets = [one.clone() for one in named(other(*given)).values()]
    rows = [
        (tuple(one[i] for one in given) if len(given) > 1 else given[0][i],
         tuple(one[i] for one in targets))
        for i in range(64)
    ]  # fmt: skip
    loader = torch.utils.data.DataLoader(rows, batch_size=16)
    steps = [*PTQ, {"finetune": {"epochs": 8, "lr": 5e-3, "batch_size": 16, "distill": 0.0}}]
    quantized = bitladder.quantize(
        model, given, "w4a8", steps, task=Imitate(), training=loader, validation=loader
    )
    by_name = {rung.technique: rung for rung in quantized.rungs}
    before = by_name["bias_correction"].quality
    assert before.value == pytest.approx(by_name["float"].quality.value, rel=0.2)
    assert by_name["finetune"].quality.value < 0.9 * before.value
    assert by_name["integer_biases"].quality.count == 64
    assert "no part in the output" not in " ".join(by_name["finetune"].notes)


def test_a_network_that_computes_nothing_is_refused():
    with pytest.raises(QuantizationError, match="the network computes nothing"):
        bitladder.quantize(torch.nn.Identity(), torch.rand(8, 3, 4, 4), 8, RECIPE)
