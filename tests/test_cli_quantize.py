"""``bitladder quantize``: from a float ONNX file and images to files that run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from tests.models.onnx_files import write
from torch import nn
from typer.testing import CliRunner

from bitladder import data, models
from bitladder.cli import app
from bitladder.errors import BitladderError, DataError, ModelError

SOON = ["--recipe", "fold_batch_norm,calibrate"]


def _invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["quantize", *map(str, arguments)])
    if isinstance(done.exception, BitladderError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of other sizes, colours and grey, in folders that mean nothing."""
    generator = np.random.default_rng(0)
    place = tmp_path / "images"
    (place / "deep" / "er").mkdir(parents=True)
    for number in range(6):
        pixels = generator.integers(0, 256, (30 + number, 50, 3), np.uint8)
        where = place if number % 2 else place / "deep" / "er"
        Image.fromarray(pixels[..., 0] if number == 3 else pixels).save(where / f"{number}.png")
    (place / "notes.txt").write_text("no image")
    return place


def _network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(channels, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, 3)).eval()


def _export(network: nn.Module, path: Path, *shape: int) -> Path:
    torch.onnx.export(network, (torch.zeros(1, *shape),), str(path), dynamo=False)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_are_not_square_and_grey_ones(
    channels: int, folder: Path, tmp_path: Path
) -> None:
    network = _network(channels)
    path = _export(network, tmp_path / "m.onnx", channels, 16, 24)
    out = tmp_path / "q.onnx"
    told = _invoke(path, "--images", folder, "-o", out, *SOON)
    assert f"{out}: {out.stat().st_size} bytes" in told
    given = data.images_without_targets(str(folder), channels, 16, 24, 6)
    session = onnxruntime.InferenceSession(str(out))
    [found] = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    with torch.no_grad():
        wanted = network(given).numpy()
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)


def test_a_data_set_is_resized_and_coloured(tmp_path: Path) -> None:
    found = data.images_without_targets("embedded", 3, 20, 24, 5)
    assert found.shape == (5, 3, 20, 24)
    assert torch.equal(found[:, 0], found[:, 2])
    assert 0 <= found.min() < 0.1 < 0.8 < found.max() <= 1


class _ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = _network(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x.permute(0, 3, 1, 2))
        return logits


def test_channels_last_as_tensorflow_has_them(folder: Path, tmp_path: Path) -> None:
    path = _export(_ChannelsLast().eval(), tmp_path / "m.onnx", 20, 12, 3)
    assert models.image_input(path) == models.ImageInput(3, 20, 12, channels_last=True)
    out = tmp_path / "q.onnx"
    _invoke(path, "--images", folder, "-o", out, "--bgr", "--mean", "0.5", *SOON)
    [given] = onnxruntime.InferenceSession(str(out)).get_inputs()
    assert given.shape[1:] == [20, 12, 3]


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="no LiteRT")
def test_a_tflite_runs_before_it_is_written(folder: Path, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = _export(_network(3), tmp_path / "m.onnx", 3, 16, 16)
    out = tmp_path / "q.tflite"  # of 16-bit activations, whose grids have to fit the format
    _invoke(path, "--images", folder, "-o", out, "--precision", "w8a16", *SOON)
    interpreter = Interpreter(str(tmp_path / "q.tflite"))
    interpreter.allocate_tensors()
    interpreter.invoke()


def test_nothing_is_left_of_a_file_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    class Other(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x.sum(1)).cumsum(1)

    path = _export(Other().eval(), tmp_path / "m.onnx", 3, 16, 16)
    with pytest.raises(BitladderError):
        _invoke(path, "--images", folder, "-o", tmp_path / "q.tflite", *SOON)
    assert not list(tmp_path.glob("*q.tflite*"))


def test_sizes_that_are_open_or_fixed(tmp_path: Path) -> None:
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"])
    path = write(tmp_path / "m.onnx", [node], {"x": ["n", 3, 48, "w"]})
    with pytest.raises(ModelError, match=r"takes images of 48x\?, leaving sizes open; give --size"):
        models.image_input(path)
    assert models.image_input(path, (48, 96)) == models.ImageInput(3, 48, 96, False)
    with pytest.raises(ModelError, match=r"takes images of 48x\?, not of 32x32"):
        models.image_input(path, (32, 32))
    write(path, [node], {"x": ["n", 7, 8, 8]})
    with pytest.raises(ModelError, match="takes 7 channels"):
        models.image_input(path)
    write(path, [node], {"x": ["n", 8]})
    with pytest.raises(ModelError, match="must take images alone"):
        models.image_input(path)


def test_a_folder_of_splits_gives_its_training_images(folder: Path) -> None:
    (folder / "train").mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "train" / "red.png")
    found = data.images_without_targets(str(folder), 3, 8, 8, 10)
    assert found.shape == (1, 3, 8, 8)
    assert found[0, 0].min() == 1
    assert not found[0, 1:].any()


def test_what_is_wrong_with_images_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 7 images cannot be decoded.*broken\.png"):
        data.images_without_targets(str(folder), 3, 8, 8, 10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        data.images_without_targets(str(tmp_path / "empty"), 3, 8, 8, 10)
    images = torch.zeros(1, 3, 2, 2)
    with pytest.raises(DataError, match="--mean: give one finite number, or 3"):
        data.standardized(images, [0.5, 0.5], [1])
    with pytest.raises(DataError, match="--std: must be positive"):
        data.standardized(images, [0], [0])


def test_a_file_takes_bytes_and_normalizes_them(folder: Path, tmp_path: Path) -> None:
    """Decoded by Pillow alone; the network itself wants blue first, less 0.5, over 0.25."""
    network = _network(3)
    source = _export(network, tmp_path / "in.onnx", 3, 24, 40)
    pixels = ["--mean", "0.5,0.45,0.4", "--std", "0.25", "--bgr"]
    _invoke(source, "--images", folder, "--input", "uint8", *pixels, *SOON,
            "-o", tmp_path / "out.onnx")  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    [given] = session.get_inputs()
    assert given.type == "tensor(uint8)"
    shown = data.images_without_targets(str(folder), 3, 24, 40, 6)
    [made] = session.run(None, {given.name: (shown * 255).round().byte().numpy()})
    mean = torch.tensor([0.5, 0.45, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        wanted = network((shown.flip(1) - mean) / 0.25).numpy()
    assert np.abs(made - wanted).max() < 0.05 * np.abs(wanted).max()
    for wrong, said in ((["--input", "bytes"], "bytes"), (["--std", "0"], "positive")):
        with pytest.raises(BitladderError, match=said):
            _invoke(source, "--images", folder, "--input", "uint8", *wrong, *SOON,
                    "-o", tmp_path / "bad.onnx")  # fmt: skip
    assert not (tmp_path / "bad.onnx").exists()


def test_encodings_are_written_and_verified(folder: Path, tmp_path: Path) -> None:
    source = _export(_network(3), tmp_path / "in.onnx", 3, 24, 40)
    written = [tmp_path / "f.onnx", "--encodings", tmp_path / "f.json"]
    _invoke(source, "--images", folder, *SOON, "--encodings-version", "0.6.1", "-o", *written)
    assert '"version": "0.6.1"' in (tmp_path / "f.json").read_text()
    for name in ("photos/one", "photos/two"):
        (tmp_path / name).mkdir(parents=True)
        for number, file in enumerate(sorted(folder.rglob("*.png"))):
            (tmp_path / name / f"{number}.png").write_bytes(file.read_bytes())
    given = ["verify", *written, "--images", tmp_path / "photos", "--limit", "1"]
    done = CliRunner().invoke(app, list(map(str, given)))
    assert done.exit_code == 0, done.output
    assert "onnxruntime" in done.output
