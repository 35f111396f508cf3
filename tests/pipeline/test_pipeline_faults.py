"""Whatever ends a run, the next one goes on and ends with the results of one left in peace."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from study_process import EPOCHS, FINETUNE_EPOCHS, Runs

STAGES = 9
HOG = """
import time
import numpy
from distributed import get_worker
from small_nets import net as small

def net(num_classes):
    kept = []
    while in_a_worker():
        kept.append(numpy.ones(2**25))
        time.sleep(0.05)
    return small(num_classes)

def in_a_worker():
    try:
        return get_worker() is not None
    except ValueError:
        return False
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # the fork server has it from here
        yield Runs(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def peace(runs):
    """A run that nothing disturbed."""
    run = runs.start(runs.folder / "peace-store", output="peace")
    assert run.end() == 0, run.text
    assert len(run.made) == STAGES
    assert set(run.logs().values()) == {1}
    return run


def _went_on(run, peace):
    """It ended well, as if nothing had been, and no complete stage was made twice."""
    assert run.end() == 0, run.text
    assert run.results() == peace.results()
    assert run.logs() == peace.logs()
    assert sorted(run.made) == sorted(set(peace.made))


def test_the_main_process_is_killed_at_ten_random_moments(runs, peace):
    store, moment = runs.folder / "killed-store", random.Random(5)
    killed = 0
    for kill in range(10):
        run = runs.start(store, output="killed")
        run.until(lambda run=run, done=kill - 1: len(run.made) >= done)
        time.sleep(moment.uniform(0, 1))
        killed += run.kill() == -signal.SIGKILL
        if (run.output / "results.csv").exists():
            assert len(run.results()[0]) == 2  # whole, however far it is
    assert killed >= 9
    _went_on(runs.start(store, output="killed"), peace)


def test_workers_and_runs_that_are_killed_or_interrupted_leave_nothing_behind(runs, peace):
    store = runs.folder / "workers-store"
    run = runs.start(store, "--jobs", "1", output="workers")
    run.until(lambda: f"epoch 2/{EPOCHS}" in run.text)
    [worker] = run.workers()
    worker.kill()
    run.until(lambda: f"epoch 5/{EPOCHS}" in run.text)
    assert "attempt 2 of 3: train embedded small_nets:net: train: the worker died" in run.text
    assert run.text.count(f"epoch 1/{EPOCHS}") == 1  # it went on from its checkpoint
    workers = run.workers()
    assert run.kill(signal.SIGINT) == 130
    assert "the same command goes on where this one stopped" in run.text
    assert "Traceback" not in run.text
    assert psutil.wait_procs(workers, timeout=60)[1] == []

    run = runs.start(store, "--jobs", "1", output="workers")
    run.until(lambda: f"epoch 2/{FINETUNE_EPOCHS}" in run.text)
    assert f"epoch 1/{EPOCHS}" not in run.text
    workers = run.workers()
    run.kill()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    _went_on(runs.start(store, output="workers"), peace)


def test_three_damaged_files_are_told_and_made_again(runs, peace):
    store = runs.folder / "damaged-store"
    shutil.copytree(peace.store, store)
    folders = [store / "stages" / key for key in (peace.made[0], peace.made[2], peace.made[-1])]
    harmed = [
        folders[0] / "weights.safetensors",
        folders[1] / "record.json",
        folders[2] / "record.json",
    ]
    harmed[0].write_bytes(harmed[0].read_bytes()[:-1] + b"x")
    harmed[1].unlink()
    harmed[2].write_text("")
    run = runs.start(store, output="damaged")
    assert run.end() == 0, run.text
    assert run.text.count("damaged: ") == 3
    assert "weights.safetensors is damaged; it is made again" in run.text
    assert sorted(run.made[STAGES:]) == sorted(folder.name for folder in folders)
    assert run.results() == peace.results()


def test_a_disk_that_fills_fails_cells_and_is_no_loss(runs, peace, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 150_000))
    run = runs.start(small_disk / "store", output="full")
    assert run.end() == 1, run.text
    assert "No space left on device; free space or choose another store" in run.text
    assert {row["status"] for row in run.results()[0]} == {"failed"}
    ballast.unlink()
    _went_on(runs.start(small_disk / "store", output="full"), peace)


def test_a_worker_over_its_memory_limit_fails_its_own_cells(runs):
    (runs.folder / "hog.py").write_text(HOG)
    models = "models=[hog:net,small_nets:net]"
    limits = ("--jobs", "1", "--memory", "2500MB")
    run = runs.start(runs.folder / "hog-store", models, "precisions=[8]", *limits, output="hog")
    assert run.end() == 1, run.text
    assert "attempt 3 of 3: train embedded hog:net: train: out of memory" in run.text
    rows = {row["model"]: row for row in run.results()[0]}
    assert rows["small_nets:net"]["status"] == "complete"
    assert "raise it with --memory, or run fewer at once with --jobs" in rows["hog:net"]["error"]


def test_two_runs_at_once_share_the_work(runs, peace):
    store = runs.folder / "shared-store"
    both = [runs.start(store, output=name) for name in ("first", "second")]
    for run in both:
        _went_on(run, peace)


def test_a_scheduler_and_workers_started_by_hand_give_the_same(runs, peace, tmp_path):
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = ["--scheduler-file", str(address), "--no-dashboard"]
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *options],
        *2 * [[*dask, "worker", "--nthreads", "1", "--no-nanny", *options]],
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(c, cwd=runs.folder, env=alone, **quiet) for c in commands]
    try:
        while not address.exists():
            time.sleep(0.05)
        found = json.loads(address.read_text())["address"]
        run = runs.start(runs.folder / "hand-store", "--scheduler", found, output="hand")
        _went_on(run, peace)
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(60)


def test_a_scheduler_that_is_not_there_is_told(runs):
    run = runs.start(runs.folder / "none-store", "--scheduler", "tcp://127.0.0.1:1", output="none")
    assert run.end() == 2
    assert "no Dask scheduler there" in run.text
    assert Path(run.output).is_dir()
