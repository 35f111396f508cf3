"""``bitladder tflite`` as a person types it: write, describe, run."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from bitladder.cli import app
from bitladder.errors import ExportError
from bitladder.targets import open_precise

pytest.importorskip("ai_edge_litert")


@pytest.fixture
def artifact(tmp_path):
    """A grid and a pool of images 1x4x4."""
    grid = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", *grid], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *grid], ["x"]),
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("QuantizeLinear", ["p", *grid], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", *grid], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [
            numpy_helper.from_array(np.float32(0.25), "scale"),
            numpy_helper.from_array(np.asarray(3, np.uint8), "zero"),
        ],
    )
    imports = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def _run(*arguments):
    done = CliRunner().invoke(app, ["tflite", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_file_is_written_described_and_run(artifact, tmp_path):
    path, folder = tmp_path / "m.tflite", tmp_path / "out"
    said = _run("convert", artifact, "-o", path)
    assert f"{path.stat().st_size} bytes" in said
    found = json.loads(_run("info", path, "--json"))
    assert [one["kind"] for one in found["operators"]].count("MAX_POOL_2D") == 1
    assert found["file_bytes"] == path.stat().st_size
    assert {one["zero_point"][0] for one in found["tensors"] if one["scale"]} == {3 - 128}
    assert "1 MAX_POOL_2D" in _run("info", path)
    images = np.random.default_rng(0).normal(0, 9, (1, 1, 4, 4)).astype(np.float32)
    images.tofile(tmp_path / "a.raw")
    (tmp_path / "list.txt").write_text("image:=a.raw\na.raw\n")
    for more in ([], ["--reference"]):
        said = _run("run", path, "--input-list", tmp_path / "list.txt", "-o", folder, *more)
        assert "2 results" in said
        made = np.fromfile(folder / "Result_1" / "logits.raw", np.float32)
        assert np.array_equal(
            made, open_precise("onnxruntime", artifact).run(images)["logits"].ravel()
        )


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(ExportError, match=r"none\.onnx: cannot read this file: it is not there"):
        _run("convert", tmp_path / "none.onnx", "-o", tmp_path / "m.tflite")
