"""Processors without VNNI: where 16-bit sums saturate, which files are exact, and what is told."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import targets, verification
from bitladder.deploy import saturating_layers
from bitladder.report import verification_table
from bitladder.targets import compare
from bitladder.tasks import find
from small_network import only

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
OLD = "Haswell"  # AVX2 without VNNI

TASK = find("classification")


@pytest.fixture(scope="session")
def emulator():
    """QEMU, which runs a program on a processor without VNNI."""
    found = shutil.which("qemu-x86_64")
    if found is None or platform.machine() != "x86_64":
        pytest.skip("an x86-64 machine with QEMU is needed; on Debian: apt install qemu-user")
    return found


@pytest.fixture
def without_vnni(emulator, tmp_path):
    """Logits of a file by a default and by a precise session on a processor without VNNI."""

    def run(artifact, images):
        np.save(tmp_path / "images.npy", images)
        program = Path(__file__).with_name("both_sessions.py")
        files = [artifact, tmp_path / "images.npy", tmp_path / "found.npz"]
        subprocess.run(
            [emulator, "-cpu", OLD, sys.executable, program, *files],
            check=True,
            capture_output=True,
            timeout=300,
        )
        with np.load(tmp_path / "found.npz") as found:
            return found["default"], found["precise"]

    return run


def _export(network, images, path, precision, weights):
    return bitladder.quantize(network, images, precision, RECIPE).export(path, weights=weights)


def _types(path):
    """Types of the weights of convolutions and linear layers."""
    tensors = onnx.load(path).graph.initializer
    return {t.data_type for t in tensors if t.name.endswith("weight_integers")}


@pytest.mark.parametrize("precision", ["w8a8", "w8a4", "w7a8", "w4a8"])
def test_auto_is_exact_in_a_default_session_on_every_processor(
    network, images, tmp_path, without_vnni, precision
):
    path = _export(network, images, tmp_path / "m.onnx", precision, "auto")
    default, precise = without_vnni(path, images[:32].numpy())
    assert len(np.unique(default)) > 4
    np.testing.assert_array_equal(default, precise)
    here = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(default, here.run(None, {"x": images[:32].numpy()})[0])
    exact = only(targets.integer_session(path).run(images[:32].numpy()))
    np.testing.assert_array_equal(default, exact)


@pytest.mark.parametrize("precision", ["w8a8", "w8a4"])
def test_int8_weights_saturate_there_and_the_reports_say_so(
    network, images, splits, tmp_path, without_vnni, precision, monkeypatch
):
    path = _export(network, images, tmp_path / "m.onnx", precision, "int8")
    assert saturating_layers(onnx.load(path).graph)
    pixels, labels = splits[1].float_images(torch.arange(128)), splits[1].targets
    default, precise = without_vnni(path, pixels.numpy())
    assert (default != precise).any()  # the kernels do saturate
    np.testing.assert_array_equal(precise, only(targets.integer_session(path).run(pixels.numpy())))

    steps = targets.open_target("onnxruntime", path).steps
    sessions = {"open_target": Recorded(default, steps), "open_precise": Recorded(precise, steps)}
    for name, session in sessions.items():
        monkeypatch.setattr(verification.targets, name, lambda *_, s=session, **__: s)
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=50)
    found = bitladder.verify(path, loader, task="classification")
    right = [int((each.argmax(1) == labels.numpy()).sum()) for each in (default, precise)]
    compared = found.comparison
    beside = compared.precise
    assert [sum(compared.quality.scores), sum(beside.quality.scores)] == right
    assert sum(beside.equal.scores) == int((default == precise).all(1).sum())
    apart = np.abs(default.astype(np.float64) - precise).max() / only(steps)
    assert beside.worst_lsb == pytest.approx(apart)
    told = found.saturation
    assert "saturates 16-bit sums" in told
    for share in (compared.quality, beside.quality, compared.agreement):
        assert f"{100 * share.value:.2f} %" in told
    table = verification_table("m.onnx", [found])
    assert "precise" in [column.header for column in table.columns]


class Recorded:
    """A session that answers what was recorded."""

    fallbacks: tuple[str, ...] = ()

    def __init__(self, logits, steps=None):
        self.logits, self.steps, self.at = logits, steps or {}, 0

    def run(self, images):
        part = self.logits[self.at : self.at + len(images)]
        self.at += len(images)
        return {"output": part}

    def close(self):
        pass


def test_the_session_is_the_one_that_users_get(network, images, tmp_path):
    """No switch is set on it, and the precise one has the switch."""
    path = _export(network, images, tmp_path / "m.onnx", 8, "int8")
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for session, precise in (
        (targets.open_target("onnxruntime", path), None),
        (targets.open_precise("onnxruntime", path), "1"),
    ):
        options = session._session.get_session_options()
        key = "session.x64quantprecision"
        if precise:
            assert options.get_session_config_entry(key) == precise
        else:
            with pytest.raises(RuntimeError):
                options.get_session_config_entry(key)
        assert options.graph_optimization_level == (
            plain.get_session_options().graph_optimization_level
        )
    assert targets.open_precise("htp", path) is None


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a8", "w4a4", "w8a4", "w2a3"])
@pytest.mark.parametrize("weights", ["uint8", "auto"])
def test_the_type_of_weights_changes_no_value(network, images, tmp_path, precision, weights):
    quantized = bitladder.quantize(network, images, precision, RECIPE)
    plain = quantized.export(tmp_path / "int8.onnx", weights="int8")
    path = quantized.export(tmp_path / "m.onnx", weights=weights)
    assert _types(plain) == {TensorProto.INT8}
    wide = weights == "uint8" or precision.startswith("w8")
    assert _types(path) == {TensorProto.UINT8 if wide else TensorProto.INT8}
    for before, after in zip(*(_weights(each) for each in (plain, path)), strict=True):
        np.testing.assert_array_equal(before, after)
    session = targets.open_target("onnxruntime", path)
    assert session.fallbacks == ()
    expected = only(targets.open_target("onnxruntime", plain).run(images.numpy()))
    np.testing.assert_array_equal(only(session.run(images.numpy())), expected)
    np.testing.assert_array_equal(only(targets.integer_session(path).run(images.numpy())), expected)


def _weights(path):
    """Integers less their zero points."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for name, values in tensors.items():
        if name.endswith("weight_integers"):
            zero = tensors[name.replace("_integers", "_zero_point")].astype(int)
            yield values.astype(int) - zero.reshape(-1, *[1] * (values.ndim - 1))


def test_the_htp_s_file_holds_int8(network, images, tmp_path):
    quantized = bitladder.quantize(network, images, 8, RECIPE)
    assert _types(quantized.export(tmp_path / "m.onnx", target="htp")) == {TensorProto.INT8}
    with pytest.raises(bitladder.errors.ExportError, match="files for htp hold int8"):
        quantized.export(tmp_path / "m.onnx", target="htp", weights="uint8")
    with pytest.raises(bitladder.errors.ExportError, match="did you mean 'uint8'"):
        quantized.export(tmp_path / "m.onnx", weights="unit8")


def test_a_file_that_may_saturate_elsewhere_says_so_here(network, images, tmp_path):
    for weights, told in (("int8", True), ("uint8", False), ("auto", False)):
        path = _export(network, images, tmp_path / "m.onnx", 8, weights)
        found = bitladder.verify(path, images[:8]).saturation
        assert (found is not None) == told
        assert not told or "without VNNI" in found or "saturates" in found
    path = _export(network, images, tmp_path / "m.onnx", "w7a8", "int8")
    assert targets.saturation_risk(path) is None


def test_the_comparison_counts_the_precise_session_too():
    labels = torch.tensor([0, 1, 1])
    here = np.array([[9, 1], [8, 3], [1, 2]], np.float32)
    exact = np.array([[9, 1], [2, 3], [1, 2]], np.float32)
    batches = [(torch.zeros(2, 1, 1, 1), labels[:2]), (torch.zeros(1, 1, 1, 1), labels[2:])]
    promised = iter(torch.from_numpy(exact).split(2))
    found = compare(
        Recorded(here, {"output": 0.5}),
        lambda _: next(promised),
        batches,
        TASK,
        precise=Recorded(exact),
    )
    beside = found.precise
    assert [sum(each.quality.scores) for each in (found, beside)] == [2, 3]
    assert [sum(each.agreement.scores) for each in (found, beside)] == [2, 3]
    assert (sum(beside.equal.scores), beside.worst_lsb) == (2, 12.0)
    assert found.saturates
    text = found.saturation()
    assert "accuracy 66.67 % where exact sums have 100.00 %" in text
    assert "33.33 % of the images have other outputs, by up to 12 LSB" in text
    promised = iter(torch.from_numpy(exact).split(2))
    unlabelled = [(images, None) for images, _ in batches]
    found = compare(
        Recorded(here, {"output": 0.5}),
        lambda _: next(promised),
        unlabelled,
        precise=Recorded(exact),
    )
    assert "accuracy" not in found.saturation()
    promised = iter(torch.from_numpy(exact).split(2))
    same = compare(Recorded(exact), lambda _: next(promised), batches, precise=Recorded(exact))
    assert same.saturation() is None
