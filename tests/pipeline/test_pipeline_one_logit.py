"""A study of two classes on a network with one logit, whose epochs would end in one image."""

import struct

import numpy as np
import pytest

from bitladder.pipeline import RunOptions, run
from bitladder.study import Study

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 32, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4, 1),
    )
"""


def _write(folder, prefix, count, seed):
    """Images in the MNIST format; those of class 1 are bright."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    images = random.integers(0, 100, (count, 32, 32)) + 100 * labels[:, None, None]
    parts = {
        "images-idx3-ubyte": struct.pack(">4I", 0x803, count, 32, 32)
        + images.astype(np.uint8).tobytes(),
        "labels-idx1-ubyte": struct.pack(">2I", 0x801, count) + labels.tobytes(),
    }
    for name, content in parts.items():
        (folder / f"{prefix}-{name}").write_bytes(content)


def test_it_is_trained_quantized_and_verified_by_signs(tmp_path, monkeypatch):
    (tmp_path / "one_logit_nets.py").write_text(NETWORK)
    folder = tmp_path / "bright"
    folder.mkdir()
    _write(folder, "train", 105, 0)
    _write(folder, "t10k", 20, 1)
    study = {
        "name": "one_logit",
        "datasets": [{"name": str(folder), "train": 65, "validation": 40}],
        "models": ["one_logit_nets:net"],
        "precisions": [8],
        "train": {"epochs": 8, "batch_size": 16, "lr": 1e-2},
        "recipe": [
            "fold_batch_norm",
            {"calibrate": {"images": 65, "method": "min_max"}},
            {"finetune": {"epochs": 1, "batch_size": 64, "distill": 0.5}},
        ],
        "verify": ["onnxruntime"],
    }
    monkeypatch.chdir(tmp_path)
    options = RunOptions(output=tmp_path / "out", store=tmp_path / "store", in_process=True)
    [cell] = run(Study.model_validate(study), options=options).cells
    assert cell.status == "complete"
    by_name = {rung.technique: rung for rung in cell.rungs}
    assert by_name["float"].quality.value == pytest.approx(1, abs=0.1)
    assert by_name["integer_biases"].quality.value == pytest.approx(1, abs=0.1)
    assert "1 steps at learning rate" in by_name["finetune"].notes[-1]
    compared = cell.verified["onnxruntime"].comparison
    assert (compared.agreement.value, compared.agreement.count) == (1, 40)
    assert sum(compared.quality.scores) >= 36
