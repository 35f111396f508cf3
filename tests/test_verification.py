"""Verifying a file: against its simulation or itself, layer by layer, on each target."""

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder.errors import TargetError
from bitladder.targets import layer_differences
from small_network import only

TASK = "classification"
RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
HTP = pytest.param(
    "htp",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime_qnn") is None,
        reason="onnxruntime-qnn is not installed",
    ),
)


@pytest.fixture
def exported(network, images, tmp_path):
    quantized = bitladder.quantize(network, images, 8, RECIPE)
    return quantized.export(tmp_path / "m.onnx"), quantized


@pytest.fixture
def loader(splits):
    images = splits[1].float_images(torch.arange(128))
    return DataLoader(TensorDataset(images, splits[1].targets), batch_size=50)


@pytest.mark.parametrize("target", ["onnxruntime", HTP])
def test_a_target_is_compared_with_the_simulation(exported, loader, target):
    path, quantized = exported
    quantized.export(path, target=target)
    found = bitladder.verify(path, loader, target=target, simulation=quantized, limit=60, task=TASK)
    assert found.comparison.agreement.count == 60
    assert found.comparison.agreement.value >= 0.95
    images, labels = (part[:60] for part in loader.dataset.tensors)
    right = int((quantized(images).argmax(1) == labels).sum())
    assert sum(found.comparison.simulation.scores) == right
    assert found.comparison.worst_lsb <= 3.01


def test_without_a_simulation_the_graph_itself_is_the_measure(exported, images):
    path, _ = exported
    found = bitladder.verify(path, images)
    assert found.comparison.quality is found.comparison.agreement is None
    assert found.comparison.equal.count == 128
    assert found.comparison.integer.equal.value == 1.0
    assert found.comparison.integer.worst_lsb == 0.0


def test_the_first_layer_that_differs_is_named(exported, images, tmp_path, monkeypatch):
    """A target that has another bias in one layer is caught there, not at the logits."""
    path, _ = exported
    model = onnx.load(path)
    [bias] = [t for t in model.graph.initializer if "pointwise" in t.name and "bias_int" in t.name]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 900, bias.name))
    onnx.save(model, tmp_path / "broken.onnx")
    from bitladder.targets import layers

    usual = layers.open_target

    def open_broken(name, artifact):
        broken = layers._loaded(tmp_path / "broken.onnx")
        grids = layers._grids(broken.graph, set(layers._held(broken)))
        layers._expose(broken, grids, artifact)
        return usual(name, artifact)

    sound = layer_differences(path, "onnxruntime", (images[:4],))
    monkeypatch.setattr(layers, "open_unfused", lambda path: open_broken("onnxruntime", path))
    broken = layer_differences(path, "onnxruntime", (images[:4],))
    assert all(row.worst <= 1 for row in sound)
    assert broken[0].name == "pointwise_0"
    assert broken[0].worst >= 1
    assert broken[0].share > 0.1


def test_integer_exact_is_what_the_runtime_computes(exported, images):
    path, quantized = exported
    integer = quantized.integer_exact()

    def exact(given):
        return torch.from_numpy(only(integer.run(given.numpy())))

    found = bitladder.verify(path, images, simulation=exact, task=TASK)
    assert found.comparison.worst_lsb == 0.0
    assert found.comparison.agreement.value == 1.0


def test_bad_input_is_told(exported, tmp_path):
    path, _ = exported
    with pytest.raises(TargetError, match="there are no images"):
        bitladder.verify(path, torch.zeros(0, 1, 12, 12))
    with pytest.raises(TargetError, match="ONNX Runtime: "):
        bitladder.verify(path, torch.zeros(4, 3, 5, 5))
    with pytest.raises(TargetError, match="unknown target 'onnxruntim'"):
        bitladder.verify(path, torch.zeros(4, 1, 12, 12), target="onnxruntim")
    np.save(tmp_path / "m.npy", np.zeros(3))
    with pytest.raises(TargetError, match=r"refuses it|not an ONNX file"):
        bitladder.verify(tmp_path / "m.npy", torch.zeros(4, 1, 12, 12))
