"""docs/coverage.md shows the committed results, and its script goes on where it was cut off."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

TARGETS = "onnxruntime,litert"
script = importlib.import_module("make_coverage")


def test_the_page_is_that_of_the_results() -> None:
    assert script.PAGE.read_text() == script.page()


def test_the_trained_networks_are_those_of_the_results() -> None:
    trained = importlib.import_module("measure_trained")
    assert trained.PAGE.read_text() == trained.page()
    rows = trained.read()
    assert {row["network"] for row in rows} <= set(trained.NETWORKS)
    for row in rows:
        assert abs(float(row["simulated"]) - float(row["onnxruntime"])) <= 0.02, row["network"]


def test_every_result_is_whole() -> None:
    for group in script.TITLES:
        for (network, precision), row in script.read(group).items():
            assert row["group"] == group
            assert precision in script.PRECISIONS
            through = [stage for stage in script.STAGES if row[stage] == "1"]
            assert bool(row["reason"]) == bool(row["stopped_at"]), network
            assert (row["stopped_at"] == "") == (len(through) == len(script.STAGES)), network


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


class _Branch(_Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (2 if float(x.mean()) > 0 else 1)


def _given(kind: type[nn.Module]) -> SimpleNamespace:
    def build(count: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        return kind().eval(), (torch.rand(count, 3, 8, 8),)

    return SimpleNamespace(group="torch", name=kind.__name__, build=build)


def test_a_network_is_measured_in_a_process_of_its_own_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = importlib.import_module("coverage_networks")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(networks, "networks", lambda only: [_given(_Network), _given(_Branch)])
    options = SimpleNamespace(only="", precisions="w8a8", seconds=60, again=False, targets=TARGETS)
    script.run(options)
    rows = script.read("torch")
    good, bad = rows["_Network", "w8a8"], rows["_Branch", "w8a8"]
    assert good["stopped_at"] == ""
    assert good["equal_images"] == "1.000"
    assert float(good["sqnr_db"]) > 20
    assert float(good["peak_mib"]) >= float(good["float_mib"]) > 0
    assert bad["stopped_at"] == "traced"
    assert "looks at values" in bad["reason"]
    assert "/" not in bad["reason"].partition("(at ")[2].partition(":")[0]
    monkeypatch.setattr(script, "_apart", lambda *given: pytest.fail("it was done already"))
    script.run(options)
