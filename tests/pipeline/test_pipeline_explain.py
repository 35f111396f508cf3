"""Explaining a study: every quantizer of every cell, written down and drawn."""

import io
import sys

import pandas
import pytest
from rich.console import Console

from bitladder.pipeline import RunOptions, explain
from bitladder.report import explanation_table, rung_table, write_charts
from bitladder.study import Study
from small_study import STUDY, Recorder


@pytest.fixture(scope="module")
def found(small_run, here):
    _, _, store = small_run
    observer = Recorder()
    options = RunOptions(output=here / "explained", store=store, in_process=True)
    study = Study.model_validate(STUDY)
    return explain(study, images=200, options=options, observer=observer), observer


def test_the_run_s_stages_serve_it(found):
    _, observer = found
    made = [(outcome.stage.kind.name, outcome.produced) for outcome in observer.outcomes]
    assert sorted(made) == [
        ("explain", True), ("explain", True), ("quantize", False), ("quantize", False),
        ("train", False),
    ]  # fmt: skip


def test_every_quantizer_of_every_cell_is_there_the_costliest_first(found):
    explanation, _ = found
    table = pandas.read_csv(explanation.output / "explain.csv", dtype={"layer": str})
    for bits, cell in table.groupby("precision"):
        assert set(cell["layer"]) >= {"0", "3", "8"}
        assert set(cell["kind"]) == {"weight", "input", "output"}
        assert (cell["bits"] == int(bits[1])).all()
        assert list(cell["sqnr_db"]) == sorted(cell["sqnr_db"])
        assert (cell["images"] == 200).all()
        assert (cell["value_low"] <= cell["value"]).all()
    means = table.groupby("precision")["sqnr_db"].median()
    assert means["w8a8"] > means["w4a4"] + 12  # 6 dB a bit


def test_ranges_are_those_of_the_weights(found):
    explanation, _ = found
    ranges = pandas.read_csv(explanation.output / "ranges.csv", dtype={"layer": str})
    first = ranges[(ranges["precision"] == "w4a4") & (ranges["layer"] == "0")]
    assert list(first["channel"]) == list(range(8))
    assert (first["lowest"] <= first["highest"]).all()


def test_the_page_stands_alone_and_holds_the_numbers(found):
    explanation, _ = found
    page = write_charts(explanation).read_text()
    assert "w4a4: each quantizer alone" in page
    assert "weights of 3 by channel" in page
    assert 'src="http' not in page
    assert len(page) > 500_000  # the library is in it


def test_the_tables_name_layers_and_techniques(found):
    explanation, _ = found
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(explanation_table(explanation))
    console.print(rung_table(explanation.results))
    text = console.export_text()
    worst = explanation.layers().groupby("precision", sort=False).head(1)
    for row in worst.to_dict("records"):
        assert f"{row['sqnr_db']:.1f} dB" in text
    assert "calibrate" in text
    assert "finetune" not in text


def test_the_processor_is_left_as_it_was(found):
    smallest = sys.float_info.min
    assert smallest / 2 != 0.0
