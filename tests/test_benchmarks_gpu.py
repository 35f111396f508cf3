"""The GPU benchmark's quick form runs end to end on the CPU, where all values are its own."""

import csv
import json
import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_gpu_benchmark_runs_on_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    command = ["--device", "cpu", "--quick", "--models", "conftest:Branches"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *command, "--output", str(tmp_path)])
    import gpu

    with pytest.raises(SystemExit) as ended:
        gpu.main()
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    values, times = (
        list(csv.DictReader((tmp_path / name).open())) for name in ("values.csv", "times.csv")
    )
    assert {row["equal"] for row in values} == {"True"}
    exact = [row for row in values if "within" not in row["rule"]]
    assert all(row["differing"] == "0" for row in exact)
    assert {row["what"] for row in values} >= {
        "fake-quantize, y",
        "ranges of weight quantizers",
        "simulated logits, w8a8",
        "int32 biases",
        "bytes of the exported file",
        "files made on the CPU and on the device",
    }
    assert len({row["what"] for row in times}) == 6
    assert all(math.isfinite(float(row["bitladder"])) for row in times), times
    assert "no GPU" in json.loads((tmp_path / "environment.json").read_text())["device"]
    assert all(row["what"] in printed for row in (*values, *times))


def test_what_differs_is_counted_and_does_not_hold(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_values
    import torch

    wanted, found = torch.zeros(4), torch.tensor([0.0, 0.5, 0.0, 1.0])
    check = gpu_values._difference("y", "", wanted, found, 0.5)
    assert (check.differing, check.most, check.equal) == (2, "2 steps", False)
    assert gpu_values._difference("y", "", wanted, found, 0.5, within=2).equal
    assert not gpu_values._near("sums", "", [torch.ones(2)], [torch.tensor([1.0, 1.01])]).equal
    assert not gpu_values._difference("y", "", wanted, wanted / 0, 1.0).equal
