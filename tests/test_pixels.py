"""What a phone must do to the pixels: nothing that the exported file does not say or do itself."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from bitladder import cli, deploy
from bitladder.errors import TargetError
from bitladder.outside import read_onnx
from bitladder.pipeline import RunOptions
from bitladder.runs import run
from bitladder.study import Study

HEIGHT, WIDTH = 24, 32
NETWORK = """
import torch
from torch import nn

class Warmth(nn.Module):
    '''Warm pictures have more red than blue, once ImageNet's mean is gone.'''

    def __init__(self, num_classes=2):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.relu(self.conv(x)).mean([2, 3])

def warmth(num_classes):
    return Warmth(num_classes)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    chance = np.random.default_rng(0)
    for name, red, blue in (("cold", 110, 112), ("warm", 130, 92)):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(40):
            pixels = chance.normal((red, 116, blue), 12, (HEIGHT, WIDTH, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / "photos" / name / f"{index}.png")
    (folder / "warm_nets.py").write_text(NETWORK)
    weight = torch.zeros(2, 3, 3, 3)
    weight[0, 0], weight[0, 2] = -1 / 9, 1 / 9
    weight[1, 0], weight[1, 2] = 1 / 9, -1 / 9
    torch.save({"conv.weight": weight}, folder / "net.pth")
    return folder


@pytest.fixture(scope="module", params=["float", "uint8"])
def results(folder, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        study = Study.model_validate({
            "name": "pixels",
            "datasets": [{"name": "photos", "size": [HEIGHT, WIDTH], "normalize": "imagenet",
                          "validation": 20}],
            "models": [{"name": "warm_nets:warmth", "weights": "net.pth"}],
            "precisions": [8],
            "recipe": ["fold_batch_norm", {"calibrate": {"images": 40}}],
            "export": {"input": request.param},
            "verify": ["onnxruntime"],
        })  # fmt: skip
        options = RunOptions(output=folder / request.param, store=folder / "store", in_process=True)
        found = run(study, options=options, progress=False)
    return request.param, found


def _cell(results):
    [cell] = results[1].cells
    assert cell.error is None, cell.error
    return cell


def test_the_file_is_right_on_pixels_as_they_are(folder, results):
    """Without a normalization of the caller's, decoded by Pillow alone, in ONNX Runtime alone."""
    kind, cell = results[0], _cell(results)
    session = onnxruntime.InferenceSession(cell.artifact("model.onnx"))
    [given] = session.get_inputs()
    assert given.type == ("tensor(uint8)" if kind == "uint8" else "tensor(float)")
    right = 0
    for label, name in enumerate(("cold", "warm")):
        for path in sorted((folder / "photos" / name).iterdir()):
            pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)[None]
            pixels = pixels if kind == "uint8" else pixels.astype(np.float32) / 255
            [logits] = session.run(None, {given.name: pixels})
            right += int(logits.argmax() == label)
    assert right >= 76  # as the float network on normalized pixels
    assert cell.quantized.quality.value >= 0.95


def test_the_file_and_the_page_say_what_it_takes(results):
    kind, cell = results[0], _cell(results)
    told = deploy.read_description(read_onnx(cell.artifact("model.onnx"), refusal=TargetError))
    assert told.input == kind
    assert told.shapes == ((3, HEIGHT, WIDTH),)
    assert told.classes == ("cold", "warm")
    assert told.task == "classification"
    assert told.normalization["mean"] == [0.485, 0.456, 0.406]
    floats = deploy.read_description(read_onnx(cell.artifact("float.onnx"), refusal=TargetError))
    assert (floats.input, floats.classes) == ("float", told.classes)
    page = (results[1].output / "report.html").read_text()
    assert "classes: cold, warm" in page
    assert ("pixels 0 to 255" if kind == "uint8" else "pixels in 0 to 1") in page


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bitladder", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_verify_takes_the_study_s_own_validation_images(folder, results, monkeypatch, capsys):
    cell = _cell(results)
    file = cell.artifact("model.onnx")
    monkeypatch.chdir(folder)
    assert not _run(monkeypatch, "verify", file, "--images", "photos", "--json")
    [found] = json.loads(capsys.readouterr().out)
    assert found["comparison"]["quality"]["count"] == 20
    assert (
        found["comparison"]["quality"]["value"]
        == cell.verified["onnxruntime"].comparison.quality.value
    )
    assert not _run(monkeypatch, "verify", file, "--images", "photos")
    assert "not the images" not in capsys.readouterr().out
    assert _run(monkeypatch, "verify", file, "--images", "photos", "--normalize", "0/1") == 2
    assert "normalizes its pixels itself" in capsys.readouterr().err


def test_other_images_are_said_to_be_others(folder, results, monkeypatch, capsys):
    for name in ("cold", "warm"):
        (folder / "few" / name).mkdir(parents=True, exist_ok=True)
        for index in range(12):
            source = folder / "photos" / name / f"{index}.png"
            (folder / "few" / name / source.name).write_bytes(source.read_bytes())
    monkeypatch.chdir(folder)
    file = _cell(results).artifact("model.onnx")
    assert not _run(monkeypatch, "verify", file, "--images", "few")
    assert "not the images that the file was validated on" in capsys.readouterr().out


class _Outside(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))[:, ::2]


def test_a_file_from_outside_is_verified_at_its_own_size(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    torch.onnx.export(_Outside(), (torch.zeros(1, 3, 18, 40),), folder / "outside.onnx",
                      dynamo=False)  # fmt: skip
    assert not _run(monkeypatch, "verify", "outside.onnx", "--images", "photos",
                    "--normalize", "0.5,0.5,0.5/0.25", "--limit", "1", "--json")  # fmt: skip
    [found] = json.loads(capsys.readouterr().out)
    assert found["comparison"]["quality"]["count"] == 1
    for wrong in ("0.5", "a/b", "0.5/0", "1/2/3"):
        assert _run(monkeypatch, "verify", "outside.onnx", "--images", "photos",
                    "--normalize", wrong) == 2  # fmt: skip
        assert "means/deviations" in capsys.readouterr().err
    assert _run(monkeypatch, "verify", "outside.onnx", "--images", "photos", "--size", "4x4") == 2
    assert "8 to 1024" in capsys.readouterr().err


def test_pictures_are_run_as_they_are_listed(folder, results, monkeypatch, capsys):
    pytest.importorskip("ai_edge_litert")
    from bitladder.deploy.litert import write_tflite

    kind, cell = results[0], _cell(results)
    file = cell.artifact("model.onnx")
    write_tflite(read_onnx(file, refusal=TargetError), folder / f"{kind}.tflite")
    (folder / "list.txt").write_text("photos/cold/3.png\nphotos/warm/3.png\n")
    monkeypatch.chdir(folder)
    assert not _run(monkeypatch, "tflite", "run", f"{kind}.tflite", "--input-list", "list.txt",
                    "-o", f"run_{kind}")  # fmt: skip
    for number in range(2):
        logits = np.fromfile(folder / f"run_{kind}" / f"Result_{number}" / "output.raw", "f4")
        assert logits.argmax() == number
