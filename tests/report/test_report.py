"""The table says what the cells say; what is shown while a study runs is plain where it must be."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from bitladder.accuracy import Accuracy
from bitladder.pipeline.execute import Outcome
from bitladder.pipeline.graph import plan
from bitladder.pipeline.results import CellResult, Results
from bitladder.progress import Progress
from bitladder.report import accuracy_table, watching
from bitladder.study import load

STUDY = load(None, ["precisions=[8,4]", "recipe=ptq"])
CELLS = plan(STUDY)
PROGRESS = Progress(1, 2, 5, 10, 321.0, 0.5, 0.25, 75.0)


def _rung(name, correct):
    accuracy = {"correct": correct, "total": 200}
    return {"technique": name, "accuracy": accuracy, "seconds": 1.0, "notes": []}


def _results():
    records = {
        "train": {"rungs": [_rung("float", 190)], "seconds": 2.0, "notes": []},
        "quantize": {"rungs": [_rung("fold_batch_norm", 190), _rung("calibrate", 180)]},
        "export": {"sizes": {"float_bytes": 4_000_000, "packed_bytes": 1_230_000,
                             "file_bytes": 1_500_000}},
        "verify": {"seconds": 1.0},
    }  # fmt: skip
    comparison = {
        "accuracy": {"correct": 179, "total": 200},
        "simulation": {"correct": 180, "total": 200},
        "agreement": {"correct": 199, "total": 200},
        "worst_lsb": 1.0,
        "mean_lsb": 0.1,
        "seconds": 0.5,
    }
    record = {"comparison": comparison, "fallbacks": ["1 Conv in float"], "first_layer": None}
    verified = {"onnxruntime": record}
    good = CellResult(CELLS[0], records, verified, {}, None)
    bad = CellResult(CELLS[1], {}, {}, {}, "train: [chance] level")
    return Results(STUDY, (good, bad), Path("out"))


def _print(content, **options):
    console = Console(file=StringIO(), width=200, **options)
    console.print(content)
    return console.file.getvalue()


def test_a_row_a_cell_with_its_interval_and_what_the_target_said():
    lines = _print(accuracy_table(_results())).splitlines()
    [good] = [line for line in lines if "w8a8" in line]
    for text in ("95.00", "90.00", "85.1-93.4", "+5.00", "89.50", "99.50", "1.23", "1.50"):
        assert text in good
    low, high = Accuracy(180, 200).interval
    assert f"{100 * low:.1f}-{100 * high:.1f}" == "85.1-93.4"
    [bad] = [line for line in lines if "w4a4" in line]
    assert "failed" in bad


def test_results_tell_status_notes_and_failures():
    results = _results()
    assert [cell.status for cell in results.cells] == ["complete", "failed"]
    assert results.failed == (results.cells[1],)
    assert results.cells[0].notes == ("onnxruntime: 1 Conv in float",)
    row = results.cells[0].row()
    assert row["quantized_loss"] == 0.05
    assert row["packed_mb"] == 1.23
    assert row["onnxruntime_simulation_acc"] == 0.9
    assert list(results.table().columns) == list(row)


def test_a_target_that_disagrees_too_often_names_its_first_layer_and_why():
    good = _results().cells[0]
    record = good.verified["onnxruntime"]
    first = {"name": "conv1", "worst": 2, "share": 0.03}
    exact = {"correct": 200, "total": 200}
    reasons = {
        "the target's own rounding": {},
        "the simulation's float32 sums, since the integer arithmetic gives every logit": {
            "integer_equal": exact
        },
    }
    for reason, found in reasons.items():
        agreement = {"agreement": {"correct": 190, "total": 200}}
        apart = {"comparison": {**record["comparison"], **agreement, **found}, "fallbacks": []}
        cell = replace(good, verified={"htp": {**apart, "first_layer": first}})
        assert cell.notes == (
            f"htp: agrees on 95.00 % of the images; first differs in conv1, by 2 in 3 % of its "
            f"values: {reason}",
        )
    alike = replace(good, verified={"onnxruntime": {**apart, "first_layer": None}})
    assert alike.notes == (
        "onnxruntime: agrees on 95.00 % of the images; no layer was found to differ: the "
        "simulation's float32 sums, since the integer arithmetic gives every logit",
    )


def test_a_target_whose_sums_saturate_is_told_with_both_qualities():
    results = _results()
    good = results.cells[0]
    record = good.verified["onnxruntime"]
    assert "precise" not in _print(accuracy_table(results))
    found = {
        "agreement": {"correct": 190, "total": 200},
        "precise": {"correct": 181, "total": 200},
        "precise_agreement": {"correct": 200, "total": 200},
        "precise_equal": {"correct": 13, "total": 200},
        "precise_worst_lsb": 53.0,
    }
    comparison = {**record["comparison"], **found}
    record = {**record, "comparison": comparison, "saturation": "both qualities"}
    cell = replace(good, verified={"onnxruntime": record})
    lines = _print(accuracy_table(replace(results, cells=(cell, results.cells[1]))))
    assert "precise" in lines
    assert re.search(r"89\.50 +│ +90\.50 +│ +95\.00", lines)
    assert cell.notes[-2].endswith("no layer was found to differ: its 16-bit sums saturate")
    assert cell.notes[-1] == "onnxruntime: both qualities"
    row = cell.row()
    assert (row["onnxruntime_acc"], row["onnxruntime_precise_acc"]) == (0.895, 0.905)
    assert (row["onnxruntime_agreement"], row["onnxruntime_precise_agreement"]) == (0.95, 1.0)
    assert (row["onnxruntime_precise_equal"], row["onnxruntime_precise_worst_lsb"]) == (0.065, 53)


def test_a_cell_whose_stages_are_still_to_run_is_pending():
    cell = CellResult(CELLS[0], {"train": _results().cells[0].records["train"]}, {}, {}, None)
    assert cell.status == "pending"
    assert cell.quantized is None
    assert cell.row()["trained_acc"] == 0.95


def _watch(console, observer_hook=None):
    stages = CELLS[0].stages
    with watching(console) as observer:
        observer.begin(stages)
        observer.started(stages[0])
        observer.progress(stages[0].label, PROGRESS)
        observer.progress(stages[0].label, PROGRESS)
        observer.time_left(3725)
        if observer_hook:
            observer_hook(observer)
        observer.finished(Outcome(stages[0], Path(), produced=True))
        observer.finished(Outcome(stages[1], None, error="quantize: [bold]no[/bold]"))
        observer.message("[red]text[/red]")
    return console.file.getvalue()


def test_logs_get_plain_lines_once_an_epoch():
    text = _watch(Console(file=StringIO(), width=200))
    assert text.count("epoch 1/2, 321 images/s, acc 0.500, val 0.250, 1:15 left") == 1
    assert "[1/4] done: train embedded shufflenet_v2_x0_5, about 1:02:05 left" in text
    assert "failed: quantize embedded shufflenet_v2_x0_5 w8a8: quantize: [bold]no[/bold]" in text
    assert "[red]text[/red]" in text


def test_a_terminal_gets_a_row_a_cell_with_what_each_stage_is_at():
    seen = []

    def look(observer):
        seen.append(_print(observer.render()).splitlines())

    text = _watch(Console(file=StringIO(), width=200, height=30, force_terminal=True), look)
    assert "[bold]no[/bold]" in text
    [head, row, training, study] = seen[0]
    assert head.split() == ["cell", "train", "quantize", "export", "verify"]
    assert row.split() == ["embedded", "shufflenet_v2_x0_5", "w8a8", "run", "·", "·", "·"]
    assert "epoch 1/2, 321 images/s, acc 0.500, val 0.250, 1:15 left" in training
    assert study == "0 of 4 stages, about 1:02:05 left"


def test_a_low_terminal_shows_the_cells_that_run_first():
    study = load(None, ["precisions=[2,3,4,5,6,7,8]", "recipe=ptq"])
    stages = list({stage.key: stage for cell in plan(study) for stage in cell.stages}.values())
    with watching(Console(file=StringIO(), width=100, height=12, force_terminal=True)) as board:
        board.begin(stages)
        board.finished(Outcome(stages[0], Path(), produced=False))
        last = next(stage for stage in stages if "w8a8" in stage.label)
        board.started(last)
        lines = _print(board.render()).splitlines()
    assert "w8a8  cached  run" in lines[1]
    assert "and 3 more cells" in lines
