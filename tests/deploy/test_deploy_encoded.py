"""AIMET's own exports, in each version of its encodings, become files that run as they say."""

import json

import aimet_torch
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from aimet_torch.common import quantsim as versions
from torch import nn

import bitladder
from bitladder.deploy import Traced, encoded, read_encodings
from bitladder.errors import ExportError

RECIPE = ["fold_batch_norm", "calibrate"]


class _Network(nn.Module):
    """Every operator with weights, a residual sum, and a bias of each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.acts = nn.ModuleList([nn.ReLU() for _ in range(3)])
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.flat = nn.Flatten()
        self.head = nn.Linear(6 * 16 * 16, 5)

    def forward(self, x):
        x = self.acts[1](self.depth(self.acts[0](self.first(x))))
        return self.head(self.flat(self.acts[2](self.up(x))))


def _round_biases(model):
    """As integer kernels hold them: int32 at the product of the scales of input and weight."""
    read = [model.first.input_quantizers[0], *(one.output_quantizers[0] for one in model.acts)]
    with torch.no_grad():
        for layer, given in zip(
            (model.first, model.depth, model.up, model.head), read, strict=True
        ):
            scale = given.get_scale() * layer.param_quantizers["weight"].get_scale()
            scale = scale.flatten() if scale.numel() == layer.bias.numel() else scale.max()
            layer.bias.copy_((layer.bias / scale).round() * scale)


@pytest.fixture(scope="module")
def images():
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["0.6.1", "1.0.0", "2.0.0"])
def exported(request, images, tmp_path_factory):
    """What AIMET alone wrote, and what its simulation gives."""
    folder = tmp_path_factory.mktemp("aimet")
    sim = aimet_torch.QuantizationSimModel(
        _Network().eval(), images[:1], default_param_bw=4, default_output_bw=8
    )
    sim.compute_encodings(lambda model: model(images))
    _round_biases(sim.model)
    with torch.no_grad():
        wanted = sim.model(images).as_subclass(torch.Tensor).numpy()
    if request.param == "2.0.0":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(versions, "encoding_version", "2.0.0")
            sim.onnx.export((images[:1],), str(folder / "m.onnx"), dynamo=False,
                            input_names=["x"], output_names=["y"])  # fmt: skip
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(versions, "encoding_version", request.param)
            sim.export(str(folder), "m", images[:1])
    encodings = folder / "m.encodings"
    assert json.loads(encodings.read_text())["version"] == request.param
    return folder / "m.onnx", encodings, wanted


def _run(path, images):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options)
    [given] = session.get_inputs()
    made = [session.run(None, {given.name: one[None].numpy()})[0] for one in images]
    return np.concatenate(made)


def test_the_file_computes_what_aimet_simulated(exported, images, tmp_path):
    file, encodings, wanted = exported
    made = encoded(onnx.load(file), read_encodings(encodings))
    onnx.save(made, tmp_path / "q.onnx")
    found = _run(tmp_path / "q.onnx", images)
    step = np.ptp(wanted) / 255
    apart = np.abs(found - wanted) / step
    assert apart.max() < 1.5  # a tie
    assert (apart > 0.5).mean() < 0.05
    told = {one.name for one in read_encodings(encodings).values() if one.axis is None}
    rounded = {n.output[0] for n in made.graph.node if n.op_type == "DequantizeLinear"}
    assert {f"{name}_dequantized" for name in told} <= rounded


def test_verify_measures_it_on_the_target(exported, images):
    file, encodings, _ = exported
    found = bitladder.verify(file, images[:1], encodings=encodings)
    assert found.comparison.worst_lsb <= 1.01
    assert found.notes == ("1 ConvTranspose computed in float",)  # which has no integer kernel


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0"])
@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w8a16"])
def test_what_we_write_in_each_version_is_what_we_measured(images, tmp_path, version, precision):
    quantized = bitladder.quantize(_Network().eval(), images, precision, RECIPE,
                                   progress=False)  # fmt: skip
    file, encodings = tmp_path / "f.onnx", tmp_path / "f.encodings"
    quantized.export(file, encodings=encodings, encodings_version=version)
    onnx.save(encoded(onnx.load(file), read_encodings(encodings)), tmp_path / "q.onnx")
    with torch.no_grad():
        wanted = quantized(images).numpy()
    step = np.ptp(wanted) / (2**16 - 1 if precision.endswith("16") else 255)
    assert np.abs(_run(tmp_path / "q.onnx", images) - wanted).max() < 1.01 * step


def test_the_oldest_version_has_the_entries_that_aimet_writes(exported, images, tmp_path):
    _, encodings, _ = exported
    theirs = json.loads(encodings.read_text())
    if theirs["version"] != "0.6.1":
        pytest.skip("of another version")
    quantized = bitladder.quantize(_Network().eval(), images, "w4a8", RECIPE,
                                   progress=False)  # fmt: skip
    quantized.export(tmp_path / "f.onnx", encodings=tmp_path / "e", encodings_version="0.6.1")
    ours = json.loads((tmp_path / "e").read_text())
    for key in ("activation_encodings", "param_encodings"):
        [first, *_] = [one[0] for one in theirs[key].values()]
        assert all(
            one.keys() == first.keys() and all(type(one[k]) is type(first[k]) for k in one)
            for entries in ours[key].values()
            for one in entries
        )
    weight = theirs["param_encodings"]["first.weight"]
    assert len(ours["param_encodings"]["first.weight"]) == len(weight)


def test_encodings_of_another_file_are_told(exported, images, tmp_path):
    _, encodings, _ = exported
    torch.onnx.export(nn.ReLU(), (images[:1],), tmp_path / "other.onnx", dynamo=False,
                      input_names=["foreign"], output_names=["else"])  # fmt: skip
    with pytest.raises(ExportError, match="encodings are of another file"):
        bitladder.verify(tmp_path / "other.onnx", images[:1], encodings=encodings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"version": "0.5.0", "encodings": []}', "version 0.5.0"),
        ('{"version": "1.0.0", "activation_encodings": []}', "not an encodings file"),
        ('{"version": "1.0.0", "activation_encodings": [{"name": "x"}], "param_encodings": []}',
         "damaged"),
        ('{"version": "0.6.1", "activation_encodings": {"x": []}, "param_encodings": {}}',
         "damaged"),
        ('{"version": "1.0.0", "param_encodings": [], "activation_encodings": [{"name": "x", '
         '"dtype": "INT", "bw": 4, "is_sym": true, "scale": [1], "offset": [-8], "enc_type": '
         '"LPBQ"}]}', "LPBQ"),
    ],
)  # fmt: skip
def test_what_no_encodings_are_is_one_line(tmp_path, content, said):
    (tmp_path / "e").write_text(content)
    with pytest.raises(ExportError, match=said) as raised:
        read_encodings(tmp_path / "e")
    assert "\n" not in str(raised.value)


def test_an_unknown_version_is_not_written(images, tmp_path):
    quantized = bitladder.quantize(_Network().eval(), images, 8, RECIPE,
                                   progress=False)  # fmt: skip
    with pytest.raises(ExportError, match=r"3\.0\.0"):
        Traced(quantized.simulated).write_float(
            tmp_path / "f.onnx", tmp_path / "e", version="3.0.0"
        )
