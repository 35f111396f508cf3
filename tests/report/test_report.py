"""The table says what the cells say; what is shown while a study runs is plain where it must be."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from bitladder.measurement import loss, proportion
from bitladder.models.size import NetworkSize
from bitladder.pipeline import kinds
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.execute import Outcome
from bitladder.pipeline.planning import plan
from bitladder.pipeline.results import Results
from bitladder.pipeline.rows import cell_row
from bitladder.pipeline.stage_records import (
    ClimbRecord,
    ExportRecord,
    FirstLayer,
    TrainRecord,
    VerifyRecord,
)
from bitladder.progress import Progress
from bitladder.report import quality_table, rung_table, verification_table, watching
from bitladder.report.quality import Estimate, Scale, Slider
from bitladder.rungs import Rung
from bitladder.study import load
from bitladder.targets.comparison import Beside, Comparison

STUDY = load(None, ["precisions=[8,4]", "recipe=ptq"])
CELLS = plan(STUDY)
PROGRESS = Progress(1, 2, 5, 10, 321.0, 0.5, 0.25, 75.0)


def _share(name, right, count=200):
    return proportion(name, [index < right for index in range(count)])


def _accuracy(right):
    return _share("accuracy", right)


def _rung(technique, right):
    return Rung(technique, _accuracy(right), seconds=1.0)


def _comparison(agree=199, **changes):
    right = _accuracy(179)
    agreement = _share("agreement", agree)
    found = Comparison(
        quality=right,
        simulation=_accuracy(180),
        agreement=agreement,
        equal=agreement,
        worst_lsb=1.0,
        mean_lsb=0.1,
        sqnr={},
        seconds=0.5,
    )
    return replace(found, **changes)


def _verified(comparison, target="onnxruntime", **changes):
    return VerifyRecord(target, comparison, **changes)


def _cell(verified):
    made = {
        kinds.TRAIN: TrainRecord((_rung("float", 190),), NetworkSize("net", 10, 4e-5, 20)),
        kinds.QUANTIZE: ClimbRecord((_rung("fold_batch_norm", 190), _rung("calibrate", 182))),
        kinds.EXPORT: ExportRecord(
            (_rung("integer_biases", 180),),
            {"float": 4_000_000, "packed": 1_230_000, "file": 1_500_000},
        ),
        kinds.VERIFY: verified,
    }
    records = {stage.key: made[stage.kind] for stage in CELLS[0].stages}
    return CellResult(CELLS[0], records, {}, None)


def _results(verified=None):
    given = verified or _verified(_comparison(), notes=("1 Conv in float",))
    bad = CellResult(CELLS[1], {}, {}, "train: [chance] level")
    return Results(STUDY, (_cell(given), bad), Path("out"))


def _print(content, **options):
    console = Console(file=StringIO(), width=200, **options)
    console.print(content)
    return console.file.getvalue()


def test_a_row_a_cell_with_its_interval_and_what_the_target_said():
    text = _print(quality_table(_results()))
    lines = text.splitlines()
    assert lines[0].strip() == f"{STUDY.name}: accuracy (%)"
    assert "loss (points)" in text
    [good] = [line for line in lines if "w8a8" in line]
    for told in (
        "95.00",
        "91.00",
        "90.00",
        "85.1\N{EN DASH}93.4",
        "89.50",
        "99.50",
        "1.23",
        "1.50",
    ):
        assert told in good
    found = loss(_accuracy(190), _accuracy(180))
    assert f"5.00 │ {100 * found.low:.2f} to {100 * found.high:.2f}" in good
    [bad] = [line for line in lines if "w4a4" in line]
    assert "failed" in bad


def test_a_row_a_rung_with_what_it_gained_and_what_is_lost_so_far():
    text = _print(rung_table(_results()))
    [last] = [line for line in text.splitlines() if "integer_biases" in line]
    assert re.search(r"90\.00 │ +85\.1.93\.4 │ +-1\.00 │ +5\.00 │ ", last)


def test_results_tell_status_notes_and_failures():
    results = _results()
    assert [cell.status for cell in results.cells] == ["complete", "failed"]
    assert results.failed == (results.cells[1],)
    assert results.cells[0].notes == ("onnxruntime: 1 Conv in float",)
    row = cell_row(results.cells[0])
    assert row["loss"] == 0.05
    assert row["packed_mb"] == 1.23
    assert row["onnxruntime_simulation"] == 0.9
    assert row["onnxruntime_loss"] == 0.055
    assert (row["quality"], row["unit"], row["higher_is_better"]) == ("accuracy", "share", True)
    assert list(results.table().columns) == list(row)


def test_a_target_that_disagrees_too_often_names_its_first_layer_and_why():
    first = FirstLayer("conv1", "2", 0.03)
    exact = Beside(_accuracy(179), None, _share("equal", 200), 0.0)
    apart = _comparison(agree=190)
    reasons = {
        "the target's own rounding": apart,
        "the simulation's float32 sums, since the integer arithmetic gives every value": replace(
            apart, integer=exact
        ),
    }
    for reason, comparison in reasons.items():
        cell = _cell(_verified(comparison, first_layer=first))
        assert cell.notes == (
            f"onnxruntime: agrees on 95.00 % of the images; first differs in conv1, by 2 in 3 % "
            f"of its values: {reason}",
        )
    alike = _cell(_verified(replace(apart, integer=exact)))
    assert alike.notes == (
        "onnxruntime: agrees on 95.00 % of the images; no layer was found to differ: the "
        "simulation's float32 sums, since the integer arithmetic gives every value",
    )


@pytest.mark.parametrize(
    ("target", "exact", "notes", "why"),
    [
        ("litert", 200, (), "its own rounding and the simulation's float32 sums"),
        ("onnxruntime", 200, (), "the simulation's float32 sums, since the integer arithmetic"),
        ("openvino", 190, ("3 Convolution computed in float",), "the float sums of layers that"),
        ("htp", 190, (), "the target's own rounding"),
    ],
)
def test_why_values_are_not_the_simulation_s_is_a_column_of_every_target(target, exact, notes, why):
    beside = Beside(_accuracy(179), None, _share("equal", exact), 0.0)
    found = replace(_comparison(agree=190), integer=beside, equal=_share("equal", 150))
    first = FirstLayer("conv1", "2", 0.03)
    row = cell_row(_cell(_verified(found, target=target, notes=notes, first_layer=first)))
    assert row[f"{target}_cause"].startswith(why)
    assert row[f"{target}_first_difference"] == "conv1, by 2 in 3 % of its values"
    alike = _cell(_verified(replace(found, equal=_share("equal", 200)), target=target))
    assert cell_row(alike)[f"{target}_cause"] == ""


def test_a_target_whose_sums_saturate_is_told_with_both_qualities():
    assert "precise" not in _print(quality_table(_results()))
    precise = Beside(_accuracy(181), _share("agreement", 200), _share("equal", 13), 53.0)
    comparison = _comparison(agree=190, precise=precise)
    results = _results(_verified(comparison, saturation="both qualities"))
    lines = _print(quality_table(results))
    assert "precise" in lines
    assert re.search(r"89\.50 +│ +90\.50 +│ +95\.00", lines)
    cell = results.cells[0]
    assert cell.notes[-2].endswith("no layer was found to differ: its 16-bit sums saturate")
    assert cell.notes[-1] == "onnxruntime: both qualities"
    row = cell_row(cell)
    assert (row["onnxruntime"], row["onnxruntime_precise"]) == (0.895, 0.905)
    assert (row["onnxruntime_agreement"], row["onnxruntime_precise_agreement"]) == (0.95, 1.0)
    assert (row["onnxruntime_precise_equal"], row["onnxruntime_precise_worst_lsb"]) == (0.065, 53)


def test_a_cell_whose_stages_are_still_to_run_is_pending():
    [key] = [stage.key for stage in CELLS[0].stages if stage.kind is kinds.TRAIN]
    cell = CellResult(CELLS[0], {key: _results().cells[0].records[key]}, {}, None)
    assert cell.status == "pending"
    assert cell.quantized is None
    assert cell_row(cell)["float"] == 0.95


def test_a_file_without_targets_to_compare_with_has_no_quality_and_no_interval():
    plain = _comparison(quality=None, simulation=None, agreement=None)
    one = SimpleNamespace(target="onnxruntime", comparison=plain, first_layer=None)
    text = _print(verification_table("model.onnx", [one]))
    [row] = [line for line in text.splitlines() if "onnxruntime" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:6] == ["onnxruntime", "200", "-", "-", "-", "1 LSB"]


@pytest.mark.parametrize(
    ("unit", "value", "told", "interval", "lost"),
    [
        (
            "share",
            (0.4242, 0.1, 0.756),
            "42.42 %",
            "10.0\N{EN DASH}75.6",
            "42.42 points (10.00 to 75.60)",
        ),
        (
            "dB",
            (31.254, 30.98, 31.43),
            "31.25 dB",
            "30.98\N{EN DASH}31.43",
            "31.25 dB (30.98 to 31.43)",
        ),
        (
            "",
            (0.00042, -1e-5, 0.0008),
            "0.00042",
            "-1e-05\N{EN DASH}0.0008",
            "0.00042 (-1e-05 to 0.0008)",
        ),
    ],
)
def test_a_quality_and_a_loss_are_told_in_their_unit(unit, value, told, interval, lost):
    found = Estimate(*value, unit)
    assert (found.told, found.interval, found.loss) == (told, interval, lost)
    alone = Estimate(value[0], None, None, unit)
    assert (str(alone), alone.loss) == (alone.text, lost.partition(" (")[0])


def test_a_name_and_a_direction_are_those_of_the_data():
    assert Scale("accuracy", "share").title == "Accuracy"
    assert Scale("mIoU", "share").title == "mIoU"
    assert Scale("PSNR", "dB").axis == "PSNR (dB)"
    assert Scale("error", "", higher_is_better=False).axis == "error, less is better"


@pytest.mark.parametrize(
    ("scale", "largest", "slider"),
    [
        (Scale("accuracy", "share"), 0.9, Slider(1.0, 0.1, 5.0, 1)),
        (Scale("PSNR", "dB"), 30.0, Slider(0.5, 0.05, 2.5, 2)),
        (Scale("error", "", False), 0.034, Slider(0.0003, 0.00003, 0.0015, 5)),
        (Scale("error", "", False), 340.0, Slider(3.0, 0.3, 15.0, 1)),
        (Scale(), 0.0, Slider(1.0, 0.1, 5.0, 1)),
    ],
)
def test_what_a_reader_may_allow_has_the_size_of_the_quality(scale, largest, slider):
    assert Slider.of(scale, largest) == slider


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
    assert text.count("epoch 1/2, 321 images/s, training 0.5, validation 0.25, 1:15 left") == 1
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
    assert "epoch 1/2, 321 images/s, training 0.5, validation 0.25, 1:15 left" in training
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
