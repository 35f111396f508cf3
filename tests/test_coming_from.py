"""The page for those who come from other tools: their names exist, our calls run."""

import contextlib
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import bitladder as bl
from bitladder import cli
from small_network import CLASSES, Branches, split

PAGE = Path(__file__).parents[1] / "docs" / "coming-from.md"
PACKAGES = ("aimet_torch", "onnxruntime", "brevitas")
SIDE = 12


def _rows():
    """The two cells of every row."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 2 and not line.startswith("|---"):
            yield cells


def _code(text):
    return re.findall(r"`([^`]+)`", text)


def _theirs():
    """Dotted names of other packages, on the whole page."""
    names = _code(PAGE.read_text())
    return sorted({name for name in names if name.split(".")[0] in PACKAGES and "." in name})


def _ours(beginning):
    calls = [code for _, ours in _rows() for code in _code(ours)]
    return list(dict.fromkeys(call for call in calls if call.startswith(beginning)))


@pytest.mark.parametrize("name", _theirs())
def test_a_call_of_theirs_exists(name):
    if name.startswith("brevitas"):
        pytest.importorskip("brevitas")
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(parts[:length]))
            break
    for part in parts[length:]:
        if not hasattr(found, part) and importlib.util.find_spec(f"{found.__name__}.{part}"):
            return  # a module that needs a package of its own to be imported
        found = getattr(found, part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a float ONNX file, pictures, and raw inputs in a list."""
    folder = tmp_path_factory.mktemp("coming")
    network = Branches().eval()
    torch.onnx.export(
        network, torch.zeros(1, 1, SIDE, SIDE), str(folder / "float.onnx"), dynamo=False
    )
    (folder / "pictures").mkdir()
    lines = []
    for number, pixels in enumerate(split(8, seed=0).pixels):
        Image.fromarray(pixels[0].numpy()).save(folder / "pictures" / f"{number}.png")
        raw = folder / f"{number}.raw"
        raw.write_bytes((pixels.numpy() / 255).astype(np.float32).tobytes())
        lines.append(str(raw))
    (folder / "list.txt").write_text("\n".join(lines))
    return folder


def test_every_call_of_ours_in_python_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    images = torch.rand(32, 1, SIDE, SIDE)
    labels = torch.arange(32) % CLASSES
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    names = {"bl": bl, "model": Branches().eval(), "images": images, "loader": loader}
    calls = _ours(("bl.", "quantized"))
    assert len(calls) > 20
    for call in calls:
        exec(call, names)
    assert {"net.onnx", "float.onnx", "float.encodings", "static.onnx"} <= {
        path.name for path in folder.iterdir()
    }


def test_every_command_of_ours_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    images = torch.rand(8, 1, SIDE, SIDE)
    recipe = ["fold_batch_norm", "calibrate"]
    quantized = bl.quantize("float.onnx", images, "w8a8", recipe, progress=False)
    quantized.export("net.onnx", target="htp")
    commands = _ours("bitladder ")
    assert len(commands) == 6
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, command
    assert (folder / "results" / "Result_7").is_dir()
