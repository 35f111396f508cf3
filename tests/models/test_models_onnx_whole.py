"""From an ONNX file to a quantized one: what is simulated is what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import models
from bitladder.errors import ModelError
from bitladder.models.onnx_file import load
from bitladder.options import ModelOptions


class _Small(nn.Module):
    """A shuffle, a residual, a pool and a head, as exporters write them for one image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        n, c, h, w = x.shape
        mixed = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = x + torch.relu(self.second(mixed))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.onnx"
    torch.onnx.export(_Small().eval(), (torch.rand(1, 3, 12, 12),), str(path), dynamo=False)
    return path


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(64, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_a_quantized_file_computes_what_was_simulated(
    file: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    quantized = bitladder.quantize(file, images, "w8a8", ["fold_batch_norm", "calibrate"])
    out = quantized.export(tmp_path / "q.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(out), options)
    [written] = session.run(None, {session.get_inputs()[0].name: images[:5].numpy()})
    wanted = quantized(images[:5]).detach().numpy()
    plain = onnxruntime.InferenceSession(str(file))
    name = plain.get_inputs()[0].name
    true = np.concatenate([plain.run(None, {name: one[None].numpy()})[0] for one in images[:5]])
    step = np.ptp(true) / 255
    assert np.abs(written - wanted).max() < 0.01 * step
    assert 0 < np.abs(wanted - true).max() < 8 * step


def test_a_file_is_trained_with_quantization(file: Path, images: torch.Tensor) -> None:
    labels = (images.mean((2, 3)).argmax(1) + (images[:, 0, 0, 0] > 0.5)).clamp(max=3)
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    quantized = bitladder.quantize(file, images, "w4a8")
    before = {name: value.clone() for name, value in quantized.state_dict().items()}
    loss = nn.functional.cross_entropy(quantized(images), labels)
    quantized.finetune(loader, epochs=8, lr=1e-2, distill=0)
    after = nn.functional.cross_entropy(quantized(images), labels)
    assert after < loss
    moved = [n for n, v in quantized.state_dict().items() if not torch.equal(v, before[n])]
    assert any(name.startswith("first.weight") for name in moved)


def test_a_study_names_a_file_as_its_model(file: Path) -> None:
    found = models.build(ModelOptions(name=str(file)), classes=4, shapes=[(3, 12, 12)], seed=1)
    assert "second.weight" in dict(found.named_parameters())
    assert found.training
    with pytest.raises(ModelError, match="takes 3x12x12 and not 3x16x16"):
        models.build(ModelOptions(name=str(file)), classes=4, shapes=[(3, 16, 16)], seed=1)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_exports_of_torchvision_are_read(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    path = tmp_path / "m.onnx"
    torch.onnx.export(network, (torch.rand(1, 3, 64, 64),), str(path), dynamo=False)
    found = load(path).module
    given = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = network(given)
        difference = (found(given) - wanted).abs().max()
    assert difference < 1e-4 * (wanted.max() - wanted.min())
