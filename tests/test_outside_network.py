"""A network that bitladder does not know, at 224x224, the whole way to the HTP."""

import importlib.util

import pytest
import torch
from torch.nn.functional import cross_entropy

import bitladder
from bitladder import dlc

timm = pytest.importorskip("timm", reason="timm is not installed")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)


@pytest.fixture(scope="module")
def images():
    """Images of 5 classes that differ in the tint of a quarter, with their labels."""
    torch.manual_seed(0)
    labels = torch.arange(40) % 5
    pixels = torch.rand(40, 3, 224, 224)
    for image, label in zip(pixels, labels, strict=True):
        image[label % 3, :, 56 * (label // 3) :][..., :112] += 1.0
    return pixels / 2, labels


@pytest.fixture(scope="module")
def trained(images):
    """A network with squeeze-and-excitation and hard swish, trained for a few steps."""
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=5)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(8):
        optimizer.zero_grad()
        cross_entropy(model(images[0]), images[1]).backward()
        optimizer.step()
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(images[0])  # statistics of the trained weights
    return model.eval()


def test_it_is_quantized_written_and_verified(trained, images, tmp_path):
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max", "images": 40}}]
    quantized = bitladder.quantize(trained, images[0], "w8a8", recipe, task="classification")
    assert quantized.rungs[-1].agreement >= 0.9
    quantized.export(tmp_path / "net.onnx")
    quantized.export(tmp_path / "net.htp.onnx", target="htp")
    quantized.export(tmp_path / "net.dlc")
    assert dlc.differences(dlc.read(tmp_path / "net.dlc"), tmp_path / "net.htp.onnx") == []
    [summary] = dlc.describe(dlc.read(tmp_path / "net.dlc"))
    assert summary.macs > 10e6
    few = images[0][:3]
    for target, path in (("onnxruntime", "net.onnx"), ("htp", "net.htp.onnx")):
        found = bitladder.verify(
            tmp_path / path, few, target=target, simulation=quantized, task="classification"
        )
        assert found.comparison.agreement.value == 1.0
        assert found.comparison.mean_lsb < 3
