"""Every technique on a network that lies on a GPU; skipped where there is none."""

import copy

import onnxruntime
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder.options import TrainOptions
from bitladder.training import fit
from small_network import agreement, only_output

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

RECIPES = {
    "post-training": [
        "fold_batch_norm",
        "relu6_to_relu",
        "cross_layer_equalization",
        "high_bias_fold",
        {"calibrate": {"images": 128}},
        {"sequential_mse": {"images": 64, "candidates": 5}},
        {"adaround": {"images": 64, "iterations": 20}},
        {"bias_correction": {"images": 128}},
    ],
    "mixed": ["fold_batch_norm", "calibrate", {"mixed_precision": {"mean_bits": 6, "images": 64}}],
    "trained": [
        {"calibrate": {"method": "mse"}},
        {"finetune": {"epochs": 1, "batch_size": 32, "lr": 2e-3, "dampen": 1e-4}},
        {"reestimate_batch_norm": {"images": 128, "batch_size": 64}},
        {"integer_finetune": {"steps": 2, "batch_size": 32}},
    ],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_network_on_a_gpu_stays_there_and_its_file_agrees(
    network, splits, images, recipe, tmp_path
):
    options = TrainOptions(epochs=5, batch_size=16, lr=1e-2, early_stopping=None)
    fit(network, *splits, options, seed=1, log_dir=tmp_path / "log", classes=4)
    loader = DataLoader(TensorDataset(images, splits[0].targets[:128]), batch_size=32)
    before = copy.deepcopy(network.state_dict())
    quantized = bitladder.quantize(
        network.cuda(), images, "w8a8", RECIPES[recipe], training=loader, validation=loader
    )
    assert {value.device.type for value in quantized.state_dict().values()} == {"cuda"}
    assert all(torch.equal(before[k], v.cpu()) for k, v in network.state_dict().items())
    assert quantized.rungs[-1].agreement > 0.8
    simulated = only_output(quantized.simulated, images)
    with torch.no_grad():
        assert torch.allclose(quantized(images.cuda()).cpu(), simulated, atol=1e-3)
    path = quantized.export(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"x": images.numpy()})
    assert agreement(simulated, torch.from_numpy(logits)) > 0.95
    quantized.save(tmp_path / "network.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "network.safetensors", network)
    assert torch.equal(only_output(loaded.simulated, images), simulated)
    assert len(quantized.layers()) == len(list(quantized.simulated.quantizers()))
    assert quantized.sensitivity()


def test_a_network_on_the_cpu_is_there_after_it_was_trained_on_a_gpu(network, images, splits):
    loader = DataLoader(TensorDataset(images, splits[0].targets[:128]), batch_size=32)
    quantized = bitladder.quantize(network, images, 8, ["fold_batch_norm", "calibrate"])
    quantized.finetune(loader, batch_size=32)
    assert {value.device.type for value in quantized.state_dict().values()} == {"cpu"}
    assert quantized(images).shape == (128, 4)
