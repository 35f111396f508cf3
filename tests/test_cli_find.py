"""From a folder of pictures and a checkpoint to the answer and the file, by one command."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bitladder import cli
from small_study import NETWORK


def _pictures(folder, count=24, side=32):
    """Bright and dark pictures, a folder a class, of a training and a validation split."""
    chance = np.random.default_rng(0)
    for split, number in (("train", count), ("val", count // 2)):
        for name, level in (("dark", 60), ("bright", 190)):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = chance.normal(level, 20, (side, side)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


class Brightness(nn.Module):
    """Tells bright from dark, so that nothing has to be trained."""

    def __init__(self, num_classes=2):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean([2, 3]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "small_nets.py").write_text(
        NETWORK
        + """
import torch

class Brightness(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean([2, 3]))

def brightness(num_classes):
    return Brightness(num_classes)
"""
    )
    network = Brightness()
    with torch.no_grad():
        network.conv.weight.fill_(1 / 27)
        network.conv.bias.zero_()
        network.head.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1).repeat(1, 4))
        network.head.bias.copy_(torch.tensor([-2.0, 2.0]))
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}},
               tmp_path / "net.pth.tar")  # fmt: skip
    _pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bitladder", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_pictures_and_a_checkpoint_give_the_answer_and_its_file(folder, monkeypatch, capsys):
    code = _run(
        monkeypatch, "find", "small_nets:brightness", "--weights", "net.pth.tar",
        "--images", "pictures", "--within", "1", "--recipes", "ptq", "--precisions", "w8a8,w4a8",
        "--size", "32",
        "--in-process", "--json", "--output", "out", "--store", "store",
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    told = json.loads(printed.out)
    [answer] = [one for one in told["answers"] if one["target"] == "onnxruntime"]
    assert answer["ship"] in ("w8a8", "w4a8")
    [file] = told["files"]
    path = folder / file.partition(": ")[2]
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    image = np.asarray(Image.open(folder / "pictures/val/bright/0.png"), np.float32) / 255
    images = np.repeat(image[None, None], 3, 1)
    [logits] = session.run(None, {session.get_inputs()[0].name: images})
    assert logits.argmax() == 0  # bright is the first class by name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small_nets:brightness", "--images", "nowhere"], "nowhere"),
        (["nothing.onnx", "--images", "pictures"], "nothing.onnx"),
        (["small_nets:brightness", "--images", "pictures", "--recipes", "best"], "best"),
        (
            ["small_nets:brightness", "--images", "pictures", "--precisions", "w99a9"],
            "99 bits is out of range",
        ),
    ],
)
def test_what_cannot_be_is_one_line(folder, monkeypatch, capsys, arguments, said):
    assert _run(monkeypatch, "find", *arguments, "--in-process", "--output", "out") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]


def test_a_file_s_own_size_is_that_of_the_images(folder):
    """Folders of images are 224 pixels otherwise, which a file of another size cannot take."""
    from bitladder.cli.find import _study

    torch.onnx.export(Brightness().eval(), (torch.zeros(1, 3, 40, 48),), "net.onnx", dynamo=False)
    asked = ("pictures", 1.0, None, "w8a8", "ptq", "onnxruntime", None)
    assert _study("net.onnx", *asked, None, None).datasets[0].size == (40, 48)
    assert _study("net.onnx", *asked, 32, None).datasets[0].size == 32
