"""DLC files: what is read is what was written, and no damaged file does harm."""

import importlib.util
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn
from typer.testing import CliRunner

from bitladder import deploy, dlc, models, quantize
from bitladder.cli import app
from bitladder.dlc.diff import differences
from bitladder.errors import DlcError, TargetError
from bitladder.options import ModelOptions
from bitladder.targets.convert import write_dlc

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)
RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


class Shuffled(nn.Module):
    """A convolution whose channels are shuffled in two groups before the next one."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        x = self.first(x).relu()
        n, _, h, w = x.shape
        x = x.view(n, 2, 4, h, w).transpose(1, 2).reshape(n, 8, h, w)
        return self.second(x).mean([2, 3])


@pytest.fixture
def written(network, images, tmp_path):
    def make(precision):
        quantized = quantize(network, images, precision, RECIPE)
        artifact = quantized.export(tmp_path / f"{precision}.onnx", target="htp")
        write_dlc(artifact, tmp_path / f"{precision}.dlc")
        return tmp_path / f"{precision}.dlc", artifact, quantized

    return make


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a4"])
def test_a_dlc_holds_the_integers_of_its_onnx(written, precision):
    path, artifact, _ = written(precision)
    assert differences(dlc.read(path), artifact) == []
    model = onnx.load(artifact)
    [bias] = [t for t in model.graph.initializer if t.name == "head_bias_integers"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, artifact)
    assert differences(dlc.read(path), artifact) == [
        "head_bias_integers: its integers differ (DLC (4,), ONNX (4,))"
    ]


def test_a_tensor_that_is_only_moved_may_keep_the_grid_it_had(images, tmp_path):
    """The converter leaves shuffled channels on the second of their two saturating grids."""
    quantized = quantize(Shuffled().eval(), images, "w4a4", RECIPE)
    artifact = quantized.export(tmp_path / "m.onnx", target="htp")
    write_dlc(artifact, tmp_path / "m.dlc")
    assert differences(dlc.read(tmp_path / "m.dlc"), artifact) == []


class Up(nn.Module):
    """Transposed convolutions of images or signals, and a number that is multiplied."""

    def __init__(self, dimensions, groups=1):
        super().__init__()
        conv, transposed = (
            (nn.Conv2d, nn.ConvTranspose2d) if dimensions == 2 else (nn.Conv1d, nn.ConvTranspose1d)
        )
        self.first, self.up = conv(3, 8, 3), transposed(8, 4, 3, stride=2, groups=groups)
        self.factor = nn.Parameter(torch.tensor(1.7))

    def forward(self, x):
        return self.up(self.first(x).relu()) * self.factor


@pytest.mark.parametrize(("dimensions", "groups"), [(2, 1), (2, 4), (1, 1)])
def test_weights_of_transposed_convolutions_and_signals_lie_in_another_order(
    tmp_path, dimensions, groups
):
    torch.manual_seed(0)
    images = torch.randn(8, 3, *[12] * dimensions)
    quantized = quantize(Up(dimensions, groups).eval(), images, 8, RECIPE, progress=False)
    artifact = quantized.export(tmp_path / "m.onnx", target="htp")
    write_dlc(artifact, tmp_path / "m.dlc")
    assert differences(dlc.read(tmp_path / "m.dlc"), artifact) == []
    model = onnx.load(artifact)
    [weight] = [t for t in model.graph.initializer if t.name == "up.weight_integers"]
    values = numpy_helper.to_array(weight).copy()
    values.flat[3] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, artifact)
    [line] = differences(dlc.read(tmp_path / "m.dlc"), artifact)
    assert line.startswith("up.weight_integers: its integers differ")


def test_a_batch_norm_that_the_converter_computes_anew_is_explained(tmp_path):
    """Files of other tools keep it, on grids of its own."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    nodes, tensors = [], []

    def held(name, values):
        tensors.append(numpy_helper.from_array(values, name))
        return name

    def dequantized(name, values, scale):
        integers = np.round(values / scale).astype(np.uint8)
        inputs = [held(f"{name}_integers", integers), held(f"{name}_scale", np.float32(scale)),
                  held(f"{name}_zero", np.uint8(0))]  # fmt: skip
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name]))
        return name

    def pair(source, name):
        grid = [held(f"{name}_scale", np.float32(0.05)), held(f"{name}_zero", np.uint8(128))]
        nodes.append(helper.make_node("QuantizeLinear", [source, *grid], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [name]))
        return name

    given = pair("x", "x_on")
    parts = [dequantized(name, rng.uniform(0.5, 1, 4), 0.01) for name in ("s", "b", "m", "v")]
    nodes.append(helper.make_node("BatchNormalization", [given, *parts], ["y_raw"], name="norm"))
    pair("y_raw", "y")
    ends = [helper.make_tensor_value_info(name, 1, [1, 4, 6, 6]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    write_dlc(tmp_path / "m.onnx", tmp_path / "m.dlc")
    lines = differences(dlc.read(tmp_path / "m.dlc"), tmp_path / "m.onnx")
    told = [line for line in lines if "computes it anew for the batch norm 'y_raw'" in line]
    assert told, lines
    assert all("fold the batch norm before you export" in line for line in told)


def test_an_activation_on_another_grid_is_found(written):
    path, artifact, _ = written("w8a8")
    model = onnx.load(artifact)
    [zero] = [t for t in model.graph.initializer if t.name == "head_dequantized_zero_point"]
    zero.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(zero) + 1, zero.name))
    onnx.save(model, artifact)
    assert differences(dlc.read(path), artifact) == [
        "head_dequantized_integers: its encoding is not the ONNX file's",
        "head_dequantized_integers: its encoding is not in the DLC",
    ]


def test_its_layers_are_counted_as_the_network_is(written, network):
    path, _, _ = written("w8a8")
    [summary] = dlc.describe(dlc.read(path))
    expected = models.summarize("branches", network, [(1, 12, 12)])
    assert summary.macs == expected.macs
    norms = 3 * 2 * 8  # weights and biases of batch norms, folded
    assert summary.parameters == expected.parameters - norms + 3 * 8  # into biases
    assert summary.types["Conv2d"] + summary.types["DepthWiseConv2d"] == 3
    assert summary.file_bytes == path.stat().st_size
    assert summary.static_bytes < summary.memory_bytes


def test_encodings_are_those_of_the_simulation(written):
    path, _, quantized = written("w8a8")
    [graph] = dlc.read(path).graphs
    weight = next(t for name, t in graph.tensors.items() if name.startswith("stem.0.weight"))
    layer = next(row for row in quantized.layers() if (row.name, row.kind) == ("stem.0", "weight"))
    steps = [(h - low) / 255 for low, h in zip(layer.lowest, layer.highest, strict=True)]
    assert weight.encoding.scale == pytest.approx(steps, rel=1e-5)
    assert weight.data_type == "sFxp_8"
    assert weight.data.dtype == np.int8
    assert {t.kind for t in graph.tensors.values()} >= {"input", "output", "native", "static"}


def test_a_float_network_is_converted_too(network, images, tmp_path):
    quantized = quantize(network, images, 8, RECIPE)
    deploy.Traced(quantized.simulated).write_float(
        tmp_path / "f.onnx", tmp_path / "f.json", version="2.0.0"
    )
    model = onnx.load(tmp_path / "f.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "f.onnx")
    write_dlc(tmp_path / "f.onnx", tmp_path / "f.dlc")
    [graph] = dlc.read(tmp_path / "f.dlc").graphs
    assert all(t.data_type != "uFxp_8" for t in graph.tensors.values())


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A DLC of one small layer, as bytes."""
    folder = tmp_path_factory.mktemp("dlc")
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    quantized = quantize(model, torch.rand(8, 1, 8, 8), 8, RECIPE)
    write_dlc(quantized.export(folder / "m.onnx", target="htp"), folder / "m.dlc")
    return (folder / "m.dlc").read_bytes()


@settings(max_examples=200)
@given(data=st.data())
def test_damaged_files_are_refused_in_one_line(content, tmp_path_factory, data):
    damaged = bytearray(content)
    cut = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()):
        del damaged[cut:]
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        if damaged:
            damaged[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path_factory.getbasetemp() / "damaged.dlc"
    path.write_bytes(bytes(damaged))
    try:
        for summary in dlc.describe(dlc.read(path)):
            json.dumps(asdict(summary))
    except DlcError as error:
        assert "\n" not in str(error)  # noqa: PT017 - whether it is raised is up to chance


def test_what_is_no_file_is_refused_unread(tmp_path):
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(DlcError, match=r"it is a (folder|device)"):
            dlc.read(path)


def test_names_of_a_hostile_file_are_printed_as_they_are(content, tmp_path):
    (tmp_path / "m.dlc").write_bytes(content.replace(b"output", b"[/bad]"))
    done = CliRunner().invoke(app, ["dlc", "info", str(tmp_path / "m.dlc")])
    assert done.exception is None
    assert "[/bad]" in done.output


def test_the_float_network_of_the_report_is_as_large_as_it_says(tmp_path):
    """MobileNetV2 for one channel: 8.95 MB, 2,219,623 parameters and 6M MACs in the report."""
    torch.manual_seed(0)
    network = models.build(
        ModelOptions(name="mobilenet_v2"), classes=10, shapes=[(1, 32, 32)], seed=1
    )
    with torch.no_grad():
        network.train()(torch.rand(16, 1, 32, 32))  # biases that are not all zero, and so shared
    path = tmp_path / "f.onnx"
    torch.onnx.export(network.eval(), torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    write_dlc(path, tmp_path / "f.dlc")
    [summary] = dlc.describe(dlc.read(tmp_path / "f.dlc"))
    assert summary.parameters == pytest.approx(2_219_623, abs=20)
    assert summary.macs == pytest.approx(6e6, rel=0.03)
    assert summary.file_bytes == pytest.approx(8.95e6, rel=0.01)


def test_the_size_that_the_report_gives_shufflenet_is_that_of_a_float_dlc(tmp_path):
    """1.558 MB in the report; its 352K parameters alone are 1.408."""
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    )
    path = tmp_path / "f.onnx"
    torch.onnx.export(network.eval(), torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    write_dlc(path, tmp_path / "f.dlc")
    assert (tmp_path / "f.dlc").stat().st_size == pytest.approx(1.558e6, rel=0.001)


def _zip(entries):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("bytes_", "message"),
    [
        (b"", "not a DLC file, or cut off"),
        (b"PK\x03\x04 no", "not a DLC file, or cut off"),
        (_zip({"other": b"x"}), "no entry 'model'"),
        (_zip({"model": b"text that is no model"}), "no DLC header"),
        (_zip({"model": b"\xd5\n\x03\x00\x01\x00\x00\x00rest"}), "DLC version 3; version 4"),
        (_zip({"model": b"\xd5\n\x04\x00\x01\x00\x00\x00\xff\xff\xff\x7f"}), "damaged: an offset"),
    ],
)
def test_what_is_no_dlc_says_why(tmp_path, bytes_, message):
    (tmp_path / "m.dlc").write_bytes(bytes_)
    with pytest.raises(DlcError, match=message):
        dlc.read(tmp_path / "m.dlc")
    done = CliRunner().invoke(app, ["dlc", "info", str(tmp_path / "m.dlc")])
    assert isinstance(done.exception, DlcError)  # which the entry point prints, with exit code 2


def test_the_commands_convert_describe_and_compare(written, tmp_path):
    path, artifact, _ = written("w8a8")
    again = tmp_path / "sub" / "again.dlc"
    run = CliRunner().invoke
    assert run(app, ["dlc", "convert", str(artifact), "-o", str(again)]).exit_code == 0
    assert run(app, ["dlc", "diff", str(again), str(artifact)]).exit_code == 0
    listed = run(app, ["dlc", "info", str(path)]).output
    for word in (
        "DepthWiseConv2d", "stride=[1, 1]", "uFxp_8", "8 bit, scale", "parameters: ", "MACs: ",
        "memory to run, estimated: ", "file: ", "converter version: ", "converter command: ",
    ):  # fmt: skip
        assert word in listed
    [summary] = json.loads(run(app, ["dlc", "info", str(path), "--json"]).output)
    assert summary["macs"] > 0
    for layer in summary["layers"]:
        assert {*layer["inputs"], *layer["outputs"]} <= summary["tensors"].keys()
    layer = next(row for row in summary["layers"] if row["type"] == "DepthWiseConv2d")
    assert layer["attributes"]["pad_amount"] == [[1, 1], [1, 1]]
    assert summary["tensors"][layer["inputs"][1]]["data_type"] == "sFxp_8"
    _, other, _ = written("w4a4")
    differing = run(app, ["dlc", "diff", str(path), str(other)])
    assert differing.exit_code == 1
    assert "integers differ" in differing.output


def test_what_cannot_be_written_is_told(written, tmp_path):
    _, artifact, _ = written("w8a8")
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="cannot write"):
        write_dlc(artifact, tmp_path / "file" / "m.dlc")
    with pytest.raises(TargetError, match="refuses it"):
        write_dlc(tmp_path / "file", tmp_path / "m.dlc")
    with pytest.raises(DlcError, match=r"holds no quantized constants|not an ONNX file"):
        differences(dlc.Dlc((), {}, 0), tmp_path / "file")
