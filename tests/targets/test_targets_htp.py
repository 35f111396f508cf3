"""The HTP emulator: near the simulation, in a process of its own, refusing what it cannot run."""

import importlib.util
import os
import signal

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from bitladder import deploy, quantize
from bitladder.errors import TargetError
from bitladder.options import Precision
from bitladder.targets import compare, containers, open_target
from bitladder.targets import htp as htp_module
from bitladder.targets.htp import HtpSession
from bitladder.tasks import find
from small_network import only

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)


@pytest.fixture
def artifact(network, images, tmp_path):
    def make(precision):
        quantized = quantize(network, images, precision, RECIPE)
        path = tmp_path / f"{precision}.onnx"
        deploy.Traced(quantized.simulated).write_qdq(path, target="htp")
        return path, quantized

    return make


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a8", "w4a4", "w8a16"])
def test_it_agrees_with_the_simulation(artifact, images, precision, capfd):
    path, quantized = artifact(precision)
    session = open_target("htp", path)
    labels = torch.zeros(40, dtype=torch.long)
    try:
        found = compare(
            session, quantized.simulated, [(images[:40], labels)], find("classification")
        )
    finally:
        session.close()
    assert found.agreement.value >= 0.9
    assert found.worst_lsb <= (4 if precision != "w8a16" else 1500)
    assert capfd.readouterr().out == ""  # the emulator prints; not here


def test_what_the_hardware_has_not_is_told():
    assert containers("htp", Precision(8, 8)) == ()
    assert containers("htp", Precision(4, 6)) == (
        "4-bit weights in a 8-bit container",
        "6-bit activations in a 8-bit container",
    )
    assert containers("onnxruntime", Precision(4, 4)) == ()


def test_an_operation_it_has_not_is_refused_and_nothing_falls_back(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Det", ["image"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"the HTP refuses it: .*CPU EP") as raised:
        open_target("htp", tmp_path / "m.onnx")
    assert "\n" not in str(raised.value)


def test_what_it_does_not_take_is_named_as_the_network_names_it(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, groups=2))
    quantized = quantize(network.eval(), torch.randn(8, 3, 12, 12), 8,
                         ["fold_batch_norm", "calibrate"], progress=False)  # fmt: skip
    path = quantized.export(tmp_path / "m.onnx", target="htp")
    with pytest.raises(TargetError, match=r"ConvTranspose '\w+' \(TransposeConv2d") as raised:
        open_target("htp", path)
    name = str(raised.value).partition("ConvTranspose '")[2].partition("'")[0]
    assert [name] in [list(n.output) for n in onnx.load(path).graph.node
                      if n.op_type == "ConvTranspose"]  # fmt: skip


def test_a_dead_emulator_is_an_error_of_the_cell_alone(artifact, images):
    path, _ = artifact("w8a8")
    session = HtpSession(path)
    os.kill(session._process._process.pid, signal.SIGKILL)
    with pytest.raises(TargetError, match="the HTP emulator ended with code -9"):
        only(session.run(images[:2].numpy()))


def test_an_emulator_that_takes_too_much_memory_is_ended_with_one_line(artifact, monkeypatch):
    path, _ = artifact("w8a8")
    monkeypatch.setattr(htp_module, "_MEMORY_LIMIT", 2**24)
    with pytest.raises(TargetError, match=r"the HTP emulator takes more than 0\.0156 GiB for it"):
        HtpSession(path)


def test_images_of_another_shape_are_told(artifact):
    path, _ = artifact("w8a8")
    session = HtpSession(path)
    with pytest.raises(TargetError, match="the HTP refuses it"):
        only(session.run(np.zeros((2, 3, 5, 5), np.float32)))


def test_without_the_package_one_line_says_what_to_install(artifact, monkeypatch):
    path, _ = artifact("w8a8")
    monkeypatch.setattr(htp_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"pip install 'bitladder\[qnn\]'"):
        open_target("htp", path)
