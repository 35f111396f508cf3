"""The one call: any network that can be traced, rungs, training, files, and what it refuses."""

import copy
import json
import math

import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import models
from bitladder.errors import ExportError, ModelError, QuantizationError, StudyError
from bitladder.options import RECIPES, ModelOptions, TrainOptions
from bitladder.tasks import find
from bitladder.training import fit
from small_network import only_output

SHORT = {"epochs": 1, "lr": 5e-3}


@pytest.fixture
def trained(network, splits, tmp_path):
    options = TrainOptions(epochs=5, batch_size=16, lr=1e-2, early_stopping=None)
    task = find("classification")
    fit(network, *splits, options, task, seed=1, log_dir=tmp_path / "log", classes=4)
    return network


@pytest.fixture
def loaders(splits):
    def loader(split):
        images = split.float_images(torch.arange(split.images))
        return DataLoader(TensorDataset(images, split.targets), batch_size=32)

    return [loader(split) for split in splits]


def _quick(name):
    """A named recipe with its slow steps shortened."""
    short = {
        "adaround": {"iterations": 20, "images": 64},
        "finetune": {"epochs": 1, "batch_size": 32},
    }
    return [
        {step.name: {**step.model_dump(), **short.get(step.name, {})}} for step in RECIPES[name]
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_network_and_its_rungs(trained, images, loaders, recipe):
    before = copy.deepcopy(trained.state_dict())
    training, validation = loaders
    steps = _quick(recipe)
    quantized = bitladder.quantize(  # at 8 bit ptq leaves two techniques out
        trained, images, "w7a8", steps, training=training, validation=validation, seed=1
    )
    techniques = [next(iter(step)) for step in steps]
    assert [rung.technique for rung in quantized.rungs] == ["float", *techniques, "integer_biases"]
    last = quantized.rungs[-1]
    logits = only_output(quantized.simulated, validation.dataset.tensors[0])
    correct = int((logits.argmax(1) == validation.dataset.tensors[1]).sum())
    assert (last.quality.value, last.quality.count) == (correct / 128, 128)
    assert last.agreement > 0.8
    assert math.isfinite(last.sqnr["output"])
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert type(trained).__name__ == "Branches"
    with torch.no_grad():
        assert quantized(images).shape == (128, 4)


def test_calibration_can_be_batches(trained, images, loaders):
    recipe = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    whole = bitladder.quantize(trained, loaders[0].dataset.tensors[0], 4, recipe)
    batches = bitladder.quantize(trained, loaders[0], 4, recipe)
    only_images = bitladder.quantize(trained, [b for b, _ in loaders[0]], 4, recipe)
    assert torch.equal(only_output(whole.simulated, images), only_output(batches.simulated, images))
    assert torch.equal(
        only_output(whole.simulated, images), only_output(only_images.simulated, images)
    )


def test_finetune_trains_what_is_measured(trained, images, loaders):
    quantized = bitladder.quantize(
        trained, images, "w2a3", ["fold_batch_norm", "calibrate"], validation=loaders[1]
    )
    simulated, start = quantized.simulated, quantized.rungs[-1].quality
    before = only_output(simulated, images)
    assert quantized.finetune(loaders[0], epochs=3, lr=5e-3, distill=0.5) is quantized
    assert quantized.simulated is simulated
    assert not torch.equal(only_output(simulated, images), before)
    assert [rung.technique for rung in quantized.rungs[-2:]] == ["finetune", "integer_biases"]
    assert quantized.rungs[-1].quality.value > start.value
    with pytest.raises(StudyError, match="unknown option 'lrr'"):
        quantized.finetune(loaders[0], lrr=1)


def test_a_saved_network_loads_bit_for_bit(trained, images, loaders, tmp_path):
    recipe = [{"calibrate": {"weights": "per_channel"}}, "finetune", "reestimate_batch_norm"]
    quantized = bitladder.quantize(trained, images, "w4a4-edges8", recipe, training=loaders[0])
    quantized.save(tmp_path / "q.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", trained)
    with torch.no_grad():
        assert torch.equal(loaded(images), quantized(images))
    assert str(loaded.precision) == "w4a4-edges8"
    assert loaded.rungs == quantized.rungs
    assert repr(loaded) == repr(quantized)
    state = quantized.state_dict()
    assert state.keys() == loaded.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
    assert [row.bits for row in loaded.layers()] == [row.bits for row in quantized.layers()]
    with pytest.raises(QuantizationError, match="no images; give some"):
        loaded.sensitivity()


def test_layers_and_sensitivity_name_the_worst(trained, images):
    with torch.no_grad():
        trained.depthwise[1].weight[0] *= 30  # one channel that the others drown in
    calibrate = {"calibrate": {"weights": "per_tensor", "method": "min_max"}}
    recipe = ["fold_batch_norm", calibrate]
    quantized = bitladder.quantize(trained, images, "w4a16", recipe, task="classification")
    weights = {row.name: row.sqnr for row in quantized.layers() if row.kind == "weight"}
    assert weights.keys() == {"stem.0", "depthwise.0", "pointwise.0", "head"}
    rows = quantized.sensitivity(images, torch.zeros(128, dtype=torch.long))
    assert {row.kind for row in rows} == {"weight", "input", "output"}
    assert (rows[0].name, rows[0].kind) == ("depthwise.0", "weight")
    assert rows[0].quality.count == 128


def test_the_artifact_runs(trained, images, tmp_path):
    quantized = bitladder.quantize(trained, images, 8, ["fold_batch_norm", "calibrate"])
    path = quantized.export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"x": images.numpy()})
    agreed = (torch.from_numpy(logits).argmax(1) == quantized(images).argmax(1)).float().mean()
    assert agreed > 0.98
    quantized.export(tmp_path / "f.onnx", encodings=tmp_path / "f.encodings")
    assert (tmp_path / "f.encodings").exists()
    with pytest.raises(ExportError, match=r"cannot write '\.pb' files"):
        quantized.export(tmp_path / "m.pb")
    with pytest.raises(ExportError, match=r"encodings stand beside a float graph; use \.onnx"):
        quantized.export(tmp_path / "m.dlc", encodings=tmp_path / "f.encodings")


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "lcnet_050"])
def test_networks_of_torchvision_and_timm_go_the_whole_way(name, tmp_path):
    if name == "lcnet_050":
        pytest.importorskip("timm")
    model = models.build(ModelOptions(name=name), classes=10, shapes=[(3, 64, 64)], seed=1)
    torch.manual_seed(0)
    images = torch.randn(16, 3, 64, 64) + torch.randn(16, 3, 1, 1)
    with torch.no_grad():
        for _ in range(3):
            model(images)  # batch norms learn what the images are like
    quantized = bitladder.quantize(
        model.eval(), images, 8, ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]
    )
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quantized.simulated.modules())
    assert not any("no quantizer" in note for rung in quantized.rungs for note in rung.notes)
    logits = only_output(quantized.simulated, images)
    quantized.save(tmp_path / "q.safetensors")
    loaded = bitladder.QuantizedModel.load(tmp_path / "q.safetensors", model)
    assert torch.equal(only_output(loaded.simulated, images), logits)
    path = quantized.export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [computed] = session.run(None, {"x": images.numpy()})
    together = torch.stack([torch.from_numpy(computed).flatten(), logits.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.9  # untrained, so that single steps matter


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        return self.layer(x).mean([2, 3])


def test_what_cannot_be_traced_is_named_by_its_line(images):
    with pytest.raises(ModelError) as raised:
        bitladder.quantize(Untraceable(), images)
    assert "test_quantized.py" in str(raised.value)
    assert "if x.sum() > 0:" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"precision": "w1a8"}, StudyError, "precision: 1 bits is out of range"),
        ({"recipe": "ptqq"}, StudyError, "unknown recipe 'ptqq'; did you mean 'ptq'"),
        ({"calibration": torch.zeros(0, 1, 12, 12)}, QuantizationError, "there are no images"),
        ({"calibration": torch.zeros(3, 12)}, ModelError, "Branches cannot take inputs of 12"),
        ({"calibration": ["a.png"]}, QuantizationError, "not the string 'a.png'"),
        ({"recipe": "qat"}, QuantizationError, "'finetune' trains: it needs labelled images"),
    ],
)
def test_bad_input_says_what_is_wrong(network, images, change, error, message):
    given = {"calibration": images, "recipe": ["fold_batch_norm", "calibrate"], **change}
    with pytest.raises(error) as raised:
        bitladder.quantize(network, **given)
    assert message in str(raised.value)


def test_files_that_are_not_ours_are_refused(network, images, tmp_path):
    (tmp_path / "text").write_text("no")
    for name in ("missing", "text"):
        with pytest.raises(QuantizationError, match="cannot read"):
            bitladder.QuantizedModel.load(tmp_path / name, network)
    quantized = bitladder.quantize(network, images, 8, ["fold_batch_norm", "calibrate"])
    quantized.simulated.save(tmp_path / "plain")
    with pytest.raises(QuantizationError, match=r"not written by QuantizedModel\.save"):
        bitladder.QuantizedModel.load(tmp_path / "plain", network)
    quantized.save(tmp_path / "ours")
    with pytest.raises(QuantizationError, match="network and recipe that it was saved from"):
        bitladder.QuantizedModel.load(
            tmp_path / "ours", nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 4))
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, r"saved by an older bitladder \(format 1; .*quantize the network again"),
        ({"format": 3}, r"saved by a newer bitladder \(format 3; .*upgrade bitladder"),
        ({"precision": None}, "what it says of its network is damaged"),
        ("no JSON", "what it says of its network is damaged"),
    ],
)
def test_files_of_other_formats_are_told_by_one_line(network, images, tmp_path, change, message):
    path = tmp_path / "q.safetensors"
    bitladder.quantize(network, images, 8, ["fold_batch_norm", "calibrate"]).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    described = {
        **json.loads(metadata["bitladder"]),
        **(change if isinstance(change, dict) else {}),
    }
    kept = {name: value for name, value in described.items() if value is not None}
    text = change if isinstance(change, str) else json.dumps(kept)
    save_file(tensors, path, {**metadata, "bitladder": text})
    with pytest.raises(QuantizationError, match=message) as raised:
        bitladder.QuantizedModel.load(path, network)
    assert "\n" not in str(raised.value)
