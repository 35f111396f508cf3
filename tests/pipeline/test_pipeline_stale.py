"""Nothing of something else: a process that lives long runs what is in the files now."""

import os

import pytest
import torch
from distributed import LocalCluster

from bitladder.errors import StudyError
from bitladder.models.size import NetworkSize
from bitladder.options import LoaderOptions
from bitladder.pipeline import RunOptions, run
from bitladder.pipeline.execute import execute
from bitladder.pipeline.planning import build
from bitladder.pipeline.results import TIMES
from bitladder.pipeline.rows import cell_row
from bitladder.pipeline.stage_records import TrainRecord
from bitladder.pipeline.stages import common, train
from bitladder.store import Store
from bitladder.study import Study
from small_study import Recorder

NET = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 04, 3, stride=2, bias=False), nn.BatchNorm2d(04), nn.ReLU(),
        nn.Flatten(), nn.Linear(04 * 7 * 7, num_classes),
    )
"""
DATA = """
import torch
from torch.utils.data import TensorDataset

def quarters():
    labels = torch.arange(400) % 4
    images = torch.rand(400, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for index, label in enumerate(labels.tolist()):
        row, column = divmod(label, 2)
        images[index, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 0.5
    return [TensorDataset(images, labels)]
"""
STUDY = {
    "name": "stale",
    "datasets": [{"name": "stale_data:quarters", "train": 300, "validation": 100}],
    "models": ["stale_nets:net"],
    "precisions": [4],
    "data": {"workers": 0},
    "train": {"epochs": 2, "batch_size": 50, "lr": 1e-2},
    "recipe": ["fold_batch_norm", {"calibrate": {"images": 100, "method": "min_max"}}],
    "verify": [],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a network and a data set of the user's."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "stale_nets.py", NET.replace("04", " 4"))
    _write(tmp_path / "stale_data.py", DATA)
    return tmp_path


@pytest.fixture(scope="module")
def address():
    """A worker that outlives runs, in this process."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None,
        silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


def _write(path, text):
    """Write a file; its time is always the same, as of an edit within a second."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


def _run(folder, name, **options):
    observer = Recorder()
    options = {"in_process": "scheduler" not in options, **options}
    results = run(
        Study.model_validate(STUDY),
        options=RunOptions(output=folder / name, **options),
        observer=observer,
    )
    assert results.failed == ()
    return results, [outcome.stage.kind.name for outcome in observer.outcomes if outcome.produced]


def _rows(results):
    return [
        {name: value for name, value in cell_row(cell).items() if not name.endswith(TIMES)}
        for cell in results.cells
    ]


EDITS = {
    "wider": ("stale_nets.py", NET.replace("04", " 8")),
    "another activation": ("stale_nets.py", NET.replace("04", " 4").replace("ReLU", "Tanh")),
    "other pixels": ("stale_data.py", DATA.replace("+= 0.5", "+= 0.3")),
    "other labels": ("stale_data.py", DATA.replace("% 4", "% 4 * (torch.arange(400) > 3)")),
}


@pytest.mark.parametrize("where", ["in this process", "on a worker that lives on"])
def test_edited_code_and_data_are_computed_as_in_a_new_process(folder, address, where):
    options = {} if where == "in this process" else {"scheduler": address}
    results, produced = _run(folder, "first", store=folder / "store", **options)
    assert produced == ["train", "quantize", "export"]
    assert _run(folder, "again", store=folder / "store", **options)[1] == []
    rows = [_rows(results)]
    for name, (file, text) in EDITS.items():
        before = (folder / file).read_text()
        _write(folder / file, text)
        results, produced = _run(folder, name, store=folder / "store", **options)
        assert produced == ["train", "quantize", "export"]
        common._load.cache_clear()
        fresh, _ = _run(folder, f"{name} fresh", store=folder / f"store {name}")
        assert _rows(results) == _rows(fresh)
        assert _rows(results) not in rows
        rows.append(_rows(results))
        _write(folder / file, before)
    back, produced = _run(folder, "back", store=folder / "store", **options)
    assert produced == []
    assert _rows(back) == rows[0]


def _first(folder, fingerprint):
    study = Study.model_validate(STUDY)
    [cell] = build(study, {"stale_data:quarters": fingerprint}, ())
    return execute(cell.stages[0], folder / "store", LoaderOptions(workers=0))


def test_a_stage_refuses_other_images_than_its_key_has(folder):
    outcome = _first(folder, "of other images")
    assert "the images are not those with which the run began" in outcome.error
    assert not Store(folder / "store").has(outcome.stage.key)


def test_code_that_changes_while_a_stage_runs_is_not_stored(folder, monkeypatch):
    study = Study.model_validate(STUDY)
    [cell] = build(study, {"stale_data:quarters": "any"}, ())

    def edit(stage, space):
        from bitladder.user_code import import_function

        _write(folder / "stale_nets.py", NET.replace("04", " 8"))
        import_function("stale_nets:net")
        return TrainRecord((), NetworkSize("net", 0, 0.0, 0))

    monkeypatch.setattr(train, "train", edit)
    outcome = execute(cell.stages[0], folder / "store", LoaderOptions())
    assert "stale_nets was changed while it was loaded; run again" in outcome.error
    assert not Store(folder / "store").has(cell.stages[0].key)
    again = execute(cell.stages[0], folder / "store", LoaderOptions())
    assert "it is not what it was when the run began" in again.error


def test_a_worker_that_follows_other_switches_says_so(folder, address, monkeypatch):
    from bitladder.pipeline.dask_workers import DaskWorkers
    from bitladder.pipeline.execute import Execution

    [cell] = build(Study.model_validate(STUDY), {"stale_data:quarters": "any"}, ())
    monkeypatch.setenv("BITLADDER_KERNEL", "0")
    execution = Execution(folder, LoaderOptions(), scheduler=address)
    with DaskWorkers(execution, folder, 1, lambda label, progress: None) as workers:
        workers.start(cell.stages[1], priority=1.0)
        [outcome] = workers.ended(60)
    assert "has kernel off, the study needs on" in outcome.error


def test_the_kernel_is_turned_off_and_on_within_a_process(folder, monkeypatch):
    from bitladder.simulation.kernel import KernelUnavailableError, library

    seen = []

    def look(stage, space):
        try:
            seen.append(library() is not None)
        except KernelUnavailableError:
            seen.append(False)
        return TrainRecord((), NetworkSize("net", 0, 0.0, 0))

    monkeypatch.setattr(train, "train", look)
    for value in ("1", "0", "1"):
        monkeypatch.setenv("BITLADDER_KERNEL", value)
        [cell] = build(Study.model_validate(STUDY), {"stale_data:quarters": value + str(seen)}, ())
        execute(cell.stages[0], folder / "store", LoaderOptions())
    assert seen == [True, False, True]


def test_a_stage_computes_in_pytorch_s_own_settings_and_leaves_others_alone(folder, monkeypatch):
    found = []

    def look(stage, space):
        found.append((torch.ones(1).dtype, torch.is_grad_enabled()))
        return TrainRecord((), NetworkSize("net", 0, 0.0, 0))

    monkeypatch.setattr(train, "train", look)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            _first(folder, "any")
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == [(torch.float32, True)]


def test_code_that_cannot_be_seen_is_told_and_noted(folder):
    _write(
        folder / "stale_nets.py",
        "def wide(path):\n    return open(path)\n" + NET.replace("04", " 4"),
    )
    observer = Recorder()
    options = RunOptions(output=folder / "out", store=folder / "store", in_process=True)
    results = run(Study.model_validate(STUDY), options=options, observer=observer)
    [line] = [text for text in observer.said if "changes cannot be seen" in text]
    assert "'version:'" in line
    assert results.cells[0].notes[0] == line


def test_files_of_an_earlier_run_with_other_options_are_gone(folder):
    _run(folder, "out", store=folder / "store")
    place = folder / "out" / "cells" / "stale_data.quarters" / "stale_nets.net" / "w4a4"
    (place / "model.dlc").write_bytes(b"of an earlier run that wrote one")
    (place / "notes.txt").write_text("a person's own")
    _run(folder, "out", store=folder / "store")
    assert not (place / "model.dlc").exists()
    assert (place / "model.onnx").exists()
    assert (place / "notes.txt").exists()


def test_a_missing_file_is_told_before_anything_runs(folder):
    study = {**STUDY, "recipe": ["fold_batch_norm", {"calibrate": {"config": "gone.json"}}]}
    with pytest.raises(StudyError, match=r"calibrate\.config.*gone\.json"):
        run(Study.model_validate(study), options=RunOptions(output=folder / "o", in_process=True))
