"""Exported files against the simulation, run by ONNX Runtime and read by AIMET's own loader."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bitladder import models, quantize
from bitladder.deploy import Traced, read_encodings, sizes
from bitladder.errors import ExportError
from bitladder.options import ModelOptions
from bitladder.targets import layer_differences, open_target
from small_network import only


def _run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images.numpy()})[0]


def _biases(path):
    """(bias scale, input scale, weight scale) of every layer of a QDQ file."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale = {
        node.output[0]: constants[node.input[1]]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            data, weight, *bias = node.input
            for name in bias:
                yield scale[name], scale[data], scale[weight]


def test_the_float_file_is_the_float_network_at_any_batch(simulate, network, images, tmp_path):
    simulated = simulate(8)
    Traced(simulated).write_float(tmp_path / "f.onnx", tmp_path / "e.json")
    onnx.checker.check_model(onnx.load(tmp_path / "f.onnx"), full_check=True)
    for batch in (1, 3, 128):
        with torch.no_grad():
            expected = network(images[:batch]).numpy()
        found = _run(tmp_path / "f.onnx", images[:batch])
        assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_the_encodings_name_tensors_of_the_float_file(simulate, tmp_path, version):
    simulated = simulate("w4a8")
    Traced(simulated).write_float(tmp_path / "f.onnx", tmp_path / "e.json", version=version)
    content = json.loads((tmp_path / "e.json").read_text())
    assert content["version"] == version
    graph = onnx.load(tmp_path / "f.onnx").graph
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    if version == "2.0.0":
        encodings = read_encodings(tmp_path / "e.json")
        assert set(encodings) <= names
        assert {encoding.bits for encoding in encodings.values()} == {4, 8}
        assert len(encodings) >= sum(1 for _ in simulated.quantizers())
    else:
        listed = [*content["activation_encodings"], *content["param_encodings"]]
        assert {entry["name"] for entry in listed} <= names
        assert read_encodings(tmp_path / "e.json").keys() == {entry["name"] for entry in listed}


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
@pytest.mark.parametrize("precision", ["w8a8", "w4a8"])
def test_aimet_s_own_loader_makes_the_same_simulation_of_the_two_files(
    simulate, images, tmp_path, precision, version
):
    loader = pytest.importorskip("aimet_onnx.quantsim", reason="aimet-onnx is not installed")
    simulated = simulate(precision)
    Traced(simulated).write_float(tmp_path / "f.onnx", tmp_path / "e.json", version=version)
    sim = loader.QuantizationSimModel(onnx.load(tmp_path / "f.onnx"))
    loader.load_encodings_to_sim(sim, str(tmp_path / "e.json"), strict=False)
    [found] = sim.session.run(None, {"x": images.numpy()})
    with torch.no_grad():
        expected = simulated(images).numpy()
    steps = np.abs(found - expected) / (np.ptp(expected) / 255)
    assert (steps > 0.5).mean() < 0.01  # a tie may fall to the other side
    assert steps.max() < 1.5


def test_the_encodings_are_the_simulation_s(simulate, tmp_path):
    simulated = simulate(8)
    Traced(simulated).write_float(tmp_path / "f.onnx", tmp_path / "e.json")
    encodings = read_encodings(tmp_path / "e.json")
    weight = simulated.module.head.param_quantizers["weight"]
    [found] = [encoding for encoding in encodings.values() if encoding.name == "head.weight"]
    assert np.allclose(found.scale.ravel(), weight.get_scale().detach().numpy().ravel())
    assert found.axis == (0 if found.scale.ndim else None)
    assert np.array_equal(
        found.quantize(simulated.module.head.weight.detach().numpy()) * found.scale.reshape(-1, 1),
        weight(simulated.module.head.weight).detach().numpy(),
    ) or np.allclose(
        found.quantize(simulated.module.head.weight.detach().numpy()) * found.scale.reshape(-1, 1),
        weight(simulated.module.head.weight).detach().numpy(),
        atol=1e-6,
    )


def test_every_bias_is_at_the_scale_of_input_times_weight(simulate, tmp_path):
    Traced(simulate(8)).write_qdq(tmp_path / "m.onnx")
    found = list(_biases(tmp_path / "m.onnx"))
    assert len(found) == 4
    for bias, data, weight in found:
        assert np.array_equal(bias, (data * weight).astype(np.float32))


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a8", "w4a4", "w3a5", "w2a2"])
def test_with_int32_biases_the_simulation_is_the_runtime_in_every_layer(
    simulate, images, tmp_path, precision
):
    simulated = simulate(precision)
    before = simulated.module.state_dict()["head.bias"].clone()
    assert Traced(simulated).quantize_biases() == "4 biases are int32"
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    found = layer_differences(tmp_path / "m.onnx", "onnxruntime", (images,), simulation=simulated)
    assert found == []
    with torch.no_grad():
        logits = only(open_target("onnxruntime", tmp_path / "m.onnx").run(images.numpy()))
        assert np.array_equal(logits, simulated(images).numpy())
    after = {name: value.clone() for name, value in simulated.module.named_parameters()}
    step = float(simulated.module.head.param_quantizers["weight"].get_scale().max())
    assert 0 < (after["head.bias"] - before).abs().max() <= step * 6 / (2 ** int(precision[-1]) - 1)
    assert (
        Traced(simulated).quantize_biases() == "4 biases are int32"
    )  # and finds them where they belong
    assert all(torch.equal(after[name], v) for name, v in simulated.module.named_parameters())


def test_with_float_biases_a_layer_of_four_bits_differs_and_is_named(simulate, images, tmp_path):
    simulated = simulate("w4a4")
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    found = layer_differences(tmp_path / "m.onnx", "onnxruntime", (images,), simulation=simulated)
    assert found
    assert found[0].name == "stem_2"


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_eight_bits_run_on_integers_within_a_step(simulate, images, tmp_path, batch):
    simulated = simulate(8)
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    session = open_target("onnxruntime", tmp_path / "m.onnx", threads=1)
    assert session.fallbacks == ()
    with torch.no_grad():
        expected = simulated(images[:batch]).numpy()
    difference = np.abs(only(session.run(images[:batch].numpy())) - expected) / only(session.steps)
    assert difference.max() < 2.5
    assert difference.mean() < 0.5


@pytest.mark.parametrize("precision", ["w6a6", "w4a8", "w4a4", "w8a16", "w3a5", "w2a2", "w16a16"])
def test_every_other_precision_is_near_its_simulation(simulate, images, tmp_path, precision):
    simulated = simulate(precision)
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    session = open_target("onnxruntime", tmp_path / "m.onnx", threads=1)
    with torch.no_grad():
        expected = simulated(images).numpy()
    logits = only(session.run(images.numpy()))
    steps = np.abs(logits - expected) / only(session.steps)
    if simulated.precision.activations <= 8:
        assert len(np.unique(logits)) <= 2**simulated.precision.activations
        assert steps.max() < 2.5
        assert steps.mean() < 0.5
    else:  # a step is a 65,536th of the range: float32 rounding and kernels count in hundreds
        assert np.abs(logits - expected).max() < 5e-3 * np.ptp(expected)


@pytest.mark.parametrize("precision", ["w4a8", "w4a16"])
def test_four_bit_weights_can_be_stored_as_int4(simulate, images, tmp_path, precision):
    simulated = simulate(precision)
    Traced(simulated).write_qdq(tmp_path / "wide.onnx")
    Traced(simulated).write_qdq(tmp_path / "m.onnx", int4=True)
    types = {tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert onnx.TensorProto.INT4 in types
    first = only(open_target("onnxruntime", tmp_path / "wide.onnx", threads=1).run(images.numpy()))
    second = only(open_target("onnxruntime", tmp_path / "m.onnx", threads=1).run(images.numpy()))
    assert np.abs(first - second).max() < 5e-3 * np.ptp(first)


def test_resnet18_runs_wholly_on_integers(simulate, tmp_path):
    model = models.build(ModelOptions(name="resnet18"), classes=10, shapes=[(1, 32, 32)], seed=1)
    torch.manual_seed(0)
    images = torch.rand(24, 1, 32, 32)
    model.train()
    with torch.no_grad():
        model(images)  # batch norm statistics of images, not of nothing
    simulated = simulate(8, model.eval(), images)
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    session = open_target("onnxruntime", tmp_path / "m.onnx", threads=1)
    assert session.fallbacks == ()
    assert (
        len(list(_biases(tmp_path / "m.onnx"))) == 21
    )  # 20 convolutions and the last layer; the shim has none
    with torch.no_grad():
        expected = simulated(images).numpy()
    steps = np.abs(only(session.run(images.numpy())) - expected) / only(session.steps)
    assert steps.mean() < 2.5  # untrained, so its logits hardly differ and their steps are tiny


def test_sizes_by_hand(simulate, tmp_path):
    simulated = simulate("w4a8")
    Traced(simulated).write_qdq(tmp_path / "m.onnx")
    found = sizes(simulated, tmp_path / "m.onnx")
    weights = 8 * 9 + 8 * 9 + 8 * 8 + 16 * 4
    biases = 8 + 8 + 8 + 4
    scales = sum(info.channels for info, _ in simulated.quantizers() if info.kind == "weight")
    assert found.float_bytes == 4 * (weights + biases)
    assert found.packed_bytes == weights // 2 + 4 * (biases + scales)
    assert found.file_bytes == (tmp_path / "m.onnx").stat().st_size


class _Bessel(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(1, 4, 3), nn.Linear(400, 2)

    def forward(self, x):
        return self.head(torch.special.i0(self.first(x)).flatten(1))


def test_what_onnx_has_not_is_told_in_one_line(images, tmp_path, capfd):
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    quantized = quantize(_Bessel().eval(), images, "w8a8", recipe)
    with pytest.raises(
        ExportError, match=r"'special_i0'\): no operator of ONNX is known"
    ) as raised:
        quantized.export(tmp_path / "m.onnx")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(simulate, tmp_path):
    with pytest.raises(ExportError, match=r"none/m\.onnx: cannot write"):
        Traced(simulate(8)).write_qdq(tmp_path / "none" / "m.onnx")


_ODD = '{"version": "2.0.0", "encodings": [%s]}'


@pytest.mark.parametrize(
    "content",
    [
        *(_ODD % '{"name": "x", "output_dtype": "int8"}', _ODD % "3"),
        _ODD % '{"name": "x", "output_dtype": "int8", "y_scale": 1, "y_zero_point": [1, 2]}',
    ],
)
def test_a_damaged_encoding_is_one_line(tmp_path, content):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ExportError, match="an encoding is damaged") as raised:
        read_encodings(tmp_path / "e.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "2.0.0"}'])
def test_a_file_that_holds_no_encodings(tmp_path, content):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ExportError, match=r"not an encodings file|not valid JSON"):
        read_encodings(tmp_path / "e.json")
