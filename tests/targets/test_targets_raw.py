"""Raw files, foreign ONNX files and contexts: what the vendor's command-line tools did."""

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bitladder import dlc, quantize, targets
from bitladder.cli import app
from bitladder.errors import BitladderError, TargetError
from small_network import only

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)
RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


@pytest.fixture
def exported(network, images, tmp_path):
    return quantize(network, images, 8, RECIPE).export(tmp_path / "m.onnx", target="htp")


@pytest.fixture
def foreign(network, tmp_path):
    """A float ONNX file that bitladder did not write, of one image an inference."""
    path = tmp_path / "foreign.onnx"
    torch.onnx.export(
        network, torch.zeros(1, 1, 12, 12), str(path), input_names=["pixels"],
        output_names=["scores"], opset_version=17, dynamo=False,
    )  # fmt: skip
    return path


@pytest.fixture
def listed(images, tmp_path):
    """Twenty raw images and their list, in which a path is written in each allowed way."""
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = ["#scores", "% a comment", ""]
    for index, image in enumerate(images[:20].numpy()):
        image.tofile(folder / f"{index}.raw")
        lines.append((f"{index}.raw", f"pixels:={folder / f'{index}.raw'}")[index % 2])
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


def _invoke(*arguments):
    done = CliRunner().invoke(app, ["dlc", *map(str, arguments)])
    if isinstance(done.exception, BitladderError):
        raise done.exception
    return done


def test_raw_results_are_what_a_session_gives(exported, images, tmp_path):
    lines = []
    for index, image in enumerate(images[:3].numpy()):
        image.tofile(tmp_path / f"{index}.raw")
        lines.append(f"x:={index}.raw")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    done = _invoke("run", exported, "--input-list", tmp_path / "list.txt", "-o", tmp_path / "out")
    assert "3 results" in done.output
    session = targets.open_target("htp", exported)
    expected = only(session.run(images[:3].numpy()))
    session.close()
    for index in range(3):
        found = np.fromfile(tmp_path / "out" / f"Result_{index}" / "output.raw", "f4")
        np.testing.assert_array_equal(found, expected[index])


def test_a_context_gives_what_its_graph_gives_on_that_version(exported, images, tmp_path):
    done = _invoke("context", exported, "-o", tmp_path / "c" / "ctx.onnx", "--htp", "v75")
    assert str(tmp_path / "c" / "ctx.bin") in done.output
    found = []
    for path in (exported, tmp_path / "c" / "ctx.onnx"):
        session = targets.open_target("htp", path, version="v75")
        found.append(only(session.run(images[:8].numpy())))
        session.close()
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("weights", "activations"), [(8, 8), (8, 16), (4, 8)])
def test_a_foreign_network_is_quantized(
    foreign, listed, network, images, tmp_path, weights, activations
):
    path = tmp_path / "q.dlc"
    bits = ["--weights", weights, "--activations", activations]
    _invoke("quantize", foreign, "--input-list", listed, *bits, "-o", path)
    [graph] = dlc.read(path).graphs
    kinds = {t.encoding.bits for t in graph.tensors.values() if t.kind == "native" and t.encoding}
    assert activations in kinds
    artifact = tmp_path / "q.onnx"
    _invoke("quantize", foreign, "--input-list", listed, *bits, "-o", artifact)
    assert dlc.differences(dlc.read(path), artifact) == []
    session = targets.open_target("htp", artifact)
    found = only(session.run(images.numpy()))
    session.close()
    with torch.no_grad():
        expected = network(images).numpy()
    noise = np.square(found - expected).sum() / np.square(expected).sum()
    assert noise < (0.05 if weights == 4 else 0.01)


def test_images_of_a_data_set_calibrate_too(tmp_path, capfd):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 10))
    path = tmp_path / "f.onnx"
    torch.onnx.export(model, torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    done = _invoke(
        "quantize", path, "--images", "embedded", "--limit", 20, "-o", tmp_path / "q.dlc"
    )
    assert "q.dlc" in done.output
    assert capfd.readouterr().err == ""  # the quantizer has advice for everybody
    with pytest.raises(TargetError, match=r"either --input-list or --images"):
        _invoke("quantize", path, "-o", tmp_path / "q.dlc")


def test_bad_lists_are_told(exported, listed, tmp_path):
    def refused(text, message):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(TargetError, match=message):
            targets.run_raw(exported, tmp_path / "bad.txt", tmp_path / "out")

    (tmp_path / "short.raw").write_bytes(b"1234")
    refused("# nothing\n", "lists no inputs")
    refused("short.raw", r"line 1: .*short.raw has 4 bytes; input 'x' .* takes 576")
    refused("missing.raw", "missing.raw: cannot read")
    refused("other:=short.raw", "must name a file for each of x")
    refused("short.raw short.raw", "must name a file for each of x")
    with pytest.raises(TargetError, match="cannot read"):
        targets.run_raw(exported, tmp_path / "none.txt", tmp_path / "out")
    with pytest.raises(TargetError, match="a DLC runs on devices only"):
        targets.run_raw(tmp_path / "m.dlc", listed, tmp_path / "out")


def test_bad_files_versions_and_bits_are_told(exported, foreign, listed, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    inputs = targets.graph_inputs(foreign)
    lines = list(targets.read_inputs(listed, inputs))
    with pytest.raises(TargetError, match="not an ONNX file"):
        targets.quantize_onnx(tmp_path / "text.onnx", tmp_path / "q.onnx", lines)
    with pytest.raises(TargetError, match="6-bit weights: the HTP has 4 and 8 bit"):
        targets.quantize_onnx(foreign, tmp_path / "q.onnx", lines, weights=6)
    with pytest.raises(TargetError, match="no calibration inputs"):
        targets.quantize_onnx(foreign, tmp_path / "q.onnx", [])
    with pytest.raises(TargetError, match="is quantized already; 'bitladder dlc convert'"):
        targets.quantize_onnx(exported, tmp_path / "q.onnx", lines)
    with pytest.raises(TargetError, match=r"cannot write '\.txt' files; use \.dlc or \.onnx"):
        _invoke("quantize", foreign, "--input-list", listed, "-o", tmp_path / "q.txt")
    with pytest.raises(TargetError, match="cannot write"):
        targets.quantize_onnx(foreign, tmp_path / "text.onnx" / "q.onnx", lines)
    with pytest.raises(TargetError, match="unknown HTP version 'v74'; did you mean"):
        targets.write_context(exported, tmp_path / "c.onnx", "v74")
    with pytest.raises(TargetError, match=r"use \.onnx"):
        targets.write_context(exported, tmp_path / "c.bin", "v75")
    session = targets.open_target("htp", exported)
    with pytest.raises(TargetError, match=r"the HTP refuses it"):
        only(session.run(np.zeros((1, 3, 12, 12), np.float32)))


def test_an_operator_that_the_htp_lacks_is_named(tmp_path):
    node = onnx.helper.make_node("Det", ["x"], ["y"])
    shapes = [("x", [1, 3, 3]), ("y", [1])]
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes)
    graph = onnx.helper.make_graph([node], "det", [x], [y])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "d.onnx")
    with pytest.raises(TargetError, match="the HTP refuses it"):
        targets.open_target("htp", tmp_path / "d.onnx")
