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


@pytest.mark.parametrize("precision", ["w8a8", "w8a16", "w4a8"])
def test_a_foreign_network_is_quantized(foreign, listed, network, images, tmp_path, precision):
    path, artifact = tmp_path / "q.dlc", tmp_path / "q.onnx"
    how = [
        "--input-list",
        listed,
        "--precision",
        precision,
        "--recipe",
        "fold_batch_norm,calibrate",
    ]
    _invoke("quantize", foreign, *how, "-o", path)
    [graph] = dlc.read(path).graphs
    kinds = {t.encoding.bits for t in graph.tensors.values() if t.kind == "native" and t.encoding}
    assert int(precision.partition("a")[2]) in kinds
    _invoke("quantize", foreign, *how, "-o", artifact)
    assert dlc.differences(dlc.read(path), artifact) == []
    session = targets.open_target("htp", artifact)
    found = only(session.run(images.numpy()))
    session.close()
    with torch.no_grad():
        expected = network(images).numpy()
    noise = np.square(found - expected).sum() / np.square(expected).sum()
    assert noise < (0.05 if precision == "w4a8" else 0.01)


def test_a_dlc_may_hold_a_number_alone(tmp_path, images):
    """A DLC gives it one dimension, which was taken for another tensor."""
    torch.manual_seed(0)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.layer(x) * torch.tensor(0.37)

    made = quantize(Scaled().eval(), images, 8, RECIPE, progress=False)
    path = made.export(tmp_path / "m.dlc")
    held = [t for t in dlc.read(path).graphs[0].tensors.values() if t.kind == "static"]
    assert any(t.shape == (1,) for t in held)


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


def test_a_list_may_begin_with_a_byte_order_mark(foreign, listed, tmp_path):
    marked = listed.with_name("marked.txt")
    marked.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes())
    inputs = targets.graph_inputs(foreign)
    first, second = (list(targets.read_inputs(one, inputs)) for one in (listed, marked))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(*one, *other)


def test_a_list_for_open_sizes_is_refused(tmp_path, listed):
    path = tmp_path / "open.onnx"
    torch.onnx.export(
        nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 12, 12), str(path), input_names=["pixels"],
        dynamic_axes={"pixels": {0: "n", 2: "h", 3: "w"}}, dynamo=False,
    )  # fmt: skip
    with pytest.raises(TargetError, match=r"'pixels' \['n', 1, 'h', 'w'\] leaves sizes open"):
        list(targets.read_inputs(listed, targets.graph_inputs(path)))


def test_bad_files_and_versions_are_told(exported, foreign, listed, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(TargetError, match="not an ONNX file"):
        targets.graph_inputs(tmp_path / "text.onnx")
    how = ["--input-list", listed]
    with pytest.raises(BitladderError, match="is quantized already"):
        _invoke("quantize", exported, *how, "-o", tmp_path / "q.dlc")
    with pytest.raises(BitladderError, match=r"cannot write '\.txt' files; use \.onnx, \.dlc or"):
        _invoke("quantize", foreign, *how, "-o", tmp_path / "q.txt")
    with pytest.raises(BitladderError, match="there is no folder"):
        _invoke("quantize", foreign, *how, "-o", tmp_path / "none" / "q.dlc")
    with pytest.raises(BitladderError, match="either --images or --input-list"):
        _invoke("quantize", foreign, "-o", tmp_path / "q.dlc")
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
