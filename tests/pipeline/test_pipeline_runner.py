"""The main job on real images: every number of a run is checked against another way to it."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bitladder import data, models, training
from bitladder.errors import DataError, ModelError, StoreError, StudyError
from bitladder.measurement import wilson
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline import RunOptions, run
from bitladder.pipeline.results import TIMES
from bitladder.pipeline.rows import cell_row
from bitladder.report.stamp import stamp
from bitladder.study import Study, load
from bitladder.tasks.classification import Classification
from small_study import STUDY, Recorder

# The command line, and then the names of all modules that it has loaded.
LIST_MODULES = "import bitladder.cli; bitladder.cli.app(standalone_mode=False); print(*sys.modules)"


@pytest.fixture(scope="module")
def images():
    options = DatasetOptions.model_validate(STUDY["datasets"][0])
    return data.load(options, LoaderOptions(), seed=1)


def test_every_cell_is_complete_and_learned_something(small_run):
    results, observer, _ = small_run
    assert [cell.status for cell in results.cells] == ["complete", "complete"]
    assert len(observer.outcomes) == len(observer.begun) == 9
    for cell in results.cells:
        assert cell.rungs[0].quality.value > 0.5
        assert [rung.technique for rung in cell.rungs] == [
            "float", "fold_batch_norm", "relu6_to_relu", "calibrate", "finetune", "integer_biases",
        ]  # fmt: skip


def test_the_trained_accuracy_is_that_of_the_saved_weights(small_run, images):
    results, _, _ = small_run
    cell = results.cell("embedded", "small_nets:net", 8)
    network = models.build(
        cell.cell.model, classes=images.classes, shapes=images.shapes, seed=STUDY.get("seed", 1)
    )
    models.load_weights(network, cell.artifact("weights.safetensors"))
    found = training.evaluate(network, images.validation.batches(100), Classification())
    assert found == cell.rungs[0].quality


@pytest.mark.parametrize("bits", [8, 4])
def test_the_artifact_gives_the_reported_accuracy_in_a_runtime_of_its_own(small_run, images, bits):
    results, _, _ = small_run
    cell = results.cell("embedded", "small_nets:net", bits)
    session = onnxruntime.InferenceSession(
        str(results.output / "cells" / cell.cell.name / "model.onnx")
    )
    pixels = images.validation.pixels.numpy().astype(np.float32) / 255
    [logits] = session.run(None, {session.get_inputs()[0].name: pixels})
    right = int((logits.argmax(1) == images.validation.targets.numpy()).sum())
    reported = cell.verified["onnxruntime"].comparison.quality
    assert (reported.value, reported.count) == (right / 300, 300)


def test_a_study_runs_both_sessions_and_tells_what_may_saturate(small_run):
    results, _, _ = small_run
    for bits, may in ((8, True), (4, False)):
        cell = results.cell("embedded", "small_nets:net", bits)
        row = cell_row(cell)
        if row["onnxruntime_precise_equal"] == 1:  # so it is with VNNI
            assert row["onnxruntime_precise"] == row["onnxruntime"]
        assert any("16-bit sums" in note for note in cell.notes) == may


def test_the_simulation_and_the_target_agree_at_eight_bits(small_run):
    results, _, _ = small_run
    found = results.cell("embedded", "small_nets:net", 8).verified["onnxruntime"]
    assert found.notes == ()
    assert found.comparison.worst_lsb == 0
    assert found.comparison.agreement.value == 1
    assert found.first_layer is None


def test_the_simulated_accuracy_is_measured_again_by_the_verification(small_run):
    results, _, _ = small_run
    for cell in results.cells:
        simulation = cell.verified["onnxruntime"].comparison.simulation
        assert simulation.value == cell.quantized.quality.value


def test_results_csv_says_what_the_cells_say(small_run):
    results, _, _ = small_run
    with (results.output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, cell in zip(rows, results.cells, strict=True):
        assert row["dataset"] == "embedded"
        trained, quantized = cell.rungs[0].quality, cell.quantized.quality
        assert float(row["float"]) == pytest.approx(trained.value, abs=1e-6)
        low, high = wilson(sum(quantized.scores), quantized.count)
        assert float(row["quantized_low"]) == pytest.approx(low, abs=1e-6)
        assert float(row["quantized_high"]) == pytest.approx(high, abs=1e-6)
        loss = trained.value - quantized.value
        assert float(row["loss"]) == pytest.approx(loss, abs=1e-6)
        assert float(row["loss_low"]) <= loss <= float(row["loss_high"])
        file = results.output / "cells" / cell.cell.name / "model.onnx"
        assert float(row["file_mb"]) * 1e6 == pytest.approx(file.stat().st_size)
        assert row["error"] == ""
        assert all(float(row[f"{kind}_seconds"]) > 0 for kind in ("train", "finetune", "verify"))
        for of in ("onnxruntime", "onnxruntime_float"):
            alone = 1000 / float(row[f"{of}_latency_ms"])
            assert 0 < alone < 5 * float(row[f"{of}_images_per_second"])


def test_rungs_csv_has_a_row_a_rung_and_its_gain(small_run):
    results, _, _ = small_run
    with (results.output / "rungs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for before, after in itertools.pairwise(rows[:6]):
        gain = float(after["value"]) - float(before["value"])
        assert float(after["gain"]) == pytest.approx(gain, abs=2e-6)
        assert (after["quality"], after["images"]) == ("accuracy", "300")


def test_the_study_as_resolved_runs_again_from_the_store(small_run, here, monkeypatch):
    results, _, store = small_run
    monkeypatch.chdir(here)
    observer = Recorder()
    written = load(results.output / "study.yaml")
    assert written == results.study
    options = RunOptions(output=here / "again", store=store, in_process=True)
    again = run(results.output / "study.yaml", options=options, observer=observer)
    assert not any(outcome.produced for outcome in observer.outcomes)
    assert (again.output / "results.csv").read_bytes() == (
        results.output / "results.csv"
    ).read_bytes()


def test_a_run_that_has_nothing_to_compute_loads_nothing_heavy(small_run, here, tmp_path):
    results, _, store = small_run
    again = shutil.copytree(results.output, tmp_path / "again")
    environment = (again / "environment.json").read_text().replace("date", "day")
    (again / "environment.json").write_text(environment)
    (again / "report.html").write_text(stamp(again))  # it is drawn already
    command = ["run", str(again / "study.yaml"), "--store", str(store), "--output", str(again)]
    code = f"import sys; sys.argv = {['bitladder', *command]!r}; {LIST_MODULES}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("cached: ") == 9
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "bitladder.pipeline.runner" in loaded
    heavy = {"torch", "torchvision", "aimet_torch", "lightning", "pandas", "altair", "distributed"}
    assert not loaded & heavy
    # It computed nothing, so that the machine and the day stay those of the run that did.
    assert (again / "environment.json").read_text() == environment


def test_the_environment_is_written_beside_the_results(small_run):
    results, _, _ = small_run
    content = json.loads((results.output / "environment.json").read_text())
    assert content["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert content["machine"]["cores"] >= 1
    assert yaml.safe_load((results.output / "study.yaml").read_text())["name"] == "small"


def test_tensorboard_has_training_and_validation_curves(small_run):
    results, _, _ = small_run
    for kind in ("train", "finetune"):
        folder = results.output / "tensorboard" / "embedded/small_nets.net/w4a4" / kind
        events = EventAccumulator(str(folder))
        events.Reload()
        logged = set(events.Tags()["scalars"])
        assert {"train_loss", "train_quality", "val_loss", "val_quality"} <= logged


def test_workers_on_dask_give_the_same_results(small_run, here, monkeypatch):
    results, _, _ = small_run
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), *sys.path]))
    observer = Recorder()
    options = RunOptions(output=here / "dask", store=here / "dask-store", jobs=2)
    other = run(Study.model_validate(STUDY), options=options, observer=observer)
    assert all(outcome.produced for outcome in observer.outcomes)
    assert any("dashboard" in text for text in observer.said)
    assert {label.split()[0] for label, _ in observer.heard} <= {"train", "finetune"}
    timed = [name for name in results.table().columns if name.endswith(TIMES)]
    first, second = (found.table().drop(columns=timed) for found in (results, other))
    assert first.equals(second)


def test_a_network_at_chance_level_fails_alone(here, monkeypatch):
    monkeypatch.chdir(here)
    study = Study.model_validate(
        {**STUDY, "models": ["small_nets:broken", "small_nets:net"], "precisions": [8]}
    )
    options = RunOptions(output=here / "half", store=here / "store", in_process=True)
    results = run(study, options=options)
    bad, good = results.cells
    assert bad.status == "failed"
    assert "chance level" in bad.error
    assert "learning rate" in bad.error
    assert good.status == "complete"
    with (results.output / "results.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed", "complete"]


def test_what_cannot_begin_says_so_before_anything_runs(here, monkeypatch, tmp_path):
    monkeypatch.chdir(here)
    options = RunOptions(output=tmp_path / "out", store=tmp_path / "store", in_process=True)

    def attempt(**changes):
        run(Study.model_validate({**STUDY, **changes}), options=options)

    with pytest.raises(ModelError, match="did you mean 'resnet18'"):
        attempt(models=["resnet19x"])
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        attempt(datasets=["minst"])
    with pytest.raises(DataError, match="there are 5000"):
        attempt(datasets=[{"name": "embedded", "train": 6000}])
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        run(Study.model_validate(STUDY), options=RunOptions(output=tmp_path / "file" / "out"))
    with pytest.raises(StudyError, match="give its path"):
        run(Study.model_validate(STUDY), ["seed=2"])


def test_an_unknown_cell_is_named_with_the_nearest(small_run):
    results, _, _ = small_run
    with pytest.raises(StudyError, match="did you mean"):
        results.cell("embedded", "small_nets:nett", 8)
    with pytest.raises(StoreError, match=r"no 'model\.dlc'"):
        results.cells[0].artifact("model.dlc")
