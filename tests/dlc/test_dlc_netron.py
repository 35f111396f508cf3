"""Netron, which describes the format publicly, opens what is written: every layer is drawn."""

import importlib.util
import shutil

import onnx
import pytest
import torch
from torch import nn

from bitladder import dlc, quantize
from bitladder.targets import write_context, write_dlc

netron = pytest.importorskip("netron", reason="netron is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime_qnn") is None,
        reason="onnxruntime-qnn is not installed",
    ),
]


def _drawn(path):
    """Number of layers that Netron draws of a file."""
    host, port = netron.start(str(path), browse=False)
    url = f"http://{host}:{port}"
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            context = browser.new_context()
            context.add_cookies([{"name": "consent", "value": "1", "url": url}])
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector("body.default", timeout=120_000)
            drawn = page.locator(".node-item").count()
            browser.close()
    finally:
        netron.stop((host, port))
    return drawn


def test_netron_draws_every_layer(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    quantized = quantize(model, torch.rand(8, 1, 8, 8), "w4a4", recipe)
    artifact = quantized.export(tmp_path / "m.onnx", target="htp")
    write_dlc(artifact, tmp_path / "m.dlc")
    write_context(artifact, tmp_path / "c.onnx", "v75")
    [summary] = dlc.describe(dlc.read(tmp_path / "m.dlc"))
    assert _drawn(tmp_path / "m.dlc") == len(summary.layers)
    for name in ("m.onnx", "c.onnx"):
        nodes = onnx.load(tmp_path / name).graph.node
        assert 0 < _drawn(tmp_path / name) <= len(nodes) + 2  # ends are drawn, constants folded in
