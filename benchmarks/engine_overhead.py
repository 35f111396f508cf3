"""What the engine costs on top of the work: many cells of a tiny network, a cached run, Ctrl-C.

    python benchmarks/engine_overhead.py [--cells 200]

One cell is run for real. In the runs of many cells each stage copies what the stage of its kind
wrote there, so that all the time they take is the engine's: keys, locks, hashes, Dask, results.
They are timed from their first stage's end to their own, so that what a cluster takes to start is
told apart; the report is drawn by the first of the cached runs. Where other programs have the
cores, processor time says more than time.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml
from distributed import LocalCluster

import bitladder as bl
from bitladder import pipeline
from bitladder.pipeline import local_cluster, stages
from bitladder.pipeline.execute import Observer

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
    )
"""
WIDTHS = [f"w{weights}a{bits}" for weights, bits in itertools.product(range(2, 17), repeat=2)]
PROGRAM = str(Path(sys.executable).with_name("bitladder"))


def study(cells):
    return {
        "name": "tiny",
        "datasets": [{"name": "embedded", "train": 600, "validation": 100}],
        "models": ["tiny_net:net"],
        "precisions": WIDTHS[-cells:],
        "train": {"epochs": 2, "batch_size": 100, "lr": 0.02},
        "recipe": [
            "fold_batch_norm",
            {"calibrate": {"images": 50, "method": "min_max"}},
            {"finetune": {"epochs": 1, "batch_size": 100, "lr": 0.001}},
        ],
    }


class Clock(Observer):
    """Seconds, and seconds of processor time, since the run's first stage ended."""

    def __init__(self):
        self.began = time.perf_counter()

    def begin(self, stages):
        self.left = len(stages)

    def finished(self, outcome):
        if not hasattr(self, "first"):
            self.first = time.perf_counter(), time.process_time(), workers_busy()
        self.left -= 1
        if self.left == 0:
            self.workers = workers_busy() - self.first[2]

    def read(self):
        busy = time.process_time() - self.first[1] + self.workers
        return time.perf_counter() - self.first[0], busy

    @property
    def start(self):
        return self.first[0] - self.began


def workers_busy():
    """Seconds of processor time of this process' children."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(found.user + found.system for found in times)


def run(store, **options):
    """Run the study; the clock that watched it, and what it shows. Every cell must be complete."""
    clock = Clock()
    options = bl.RunOptions(store=store, output=f"{store}-out", **options)
    results = pipeline.run("tiny.yaml", options=options, observer=clock)
    read = clock.read()
    if any(cell.status != "complete" for cell in results.cells):
        raise SystemExit(results.table().to_string())
    return clock, *read


def copy_of(folders):
    """A stand-in for the work: the output of the stage of the same kind in ``folders``."""

    def perform(stage, bench, output):
        own = shutil.ignore_patterns("manifest.json", "checked.json")  # of the store, for each
        shutil.copytree(folders[stage.kind], output, dirs_exist_ok=True, ignore=own)

    return perform


def dask_setup(worker):
    """Dask calls this in a worker process: the stand-in takes the place of the work there, too."""
    stages.perform = copy_of(json.loads(os.environ["STAND_IN"]))


def copying(cells, example):
    """What the stand-in itself takes for all cells."""
    perform = copy_of({stage.kind: example.folders[stage.kind] for stage in example.cell.stages})
    started = time.perf_counter(), time.process_time()
    for index, stage in enumerate(example.cell.stages * cells):
        perform(stage, None, Path("copies", str(index)))
    return time.perf_counter() - started[0], time.process_time() - started[1]


def command(*arguments):
    """Run ``bitladder``; (seconds, seconds of processor time)."""
    started, before = time.perf_counter(), os.times()
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    after = os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of child processes
    return time.perf_counter() - started, busy


def interrupt(*arguments):
    """Seconds from Ctrl-C in the middle of training to the end of the program."""
    words = ["run", "models=[mobilenet_v2]", "train.epochs=1000", "--store", "stopped", *arguments]
    with subprocess.Popen([PROGRAM, *words], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 1/1000" in line:
                break
        time.sleep(1)
        started = time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        seconds = time.perf_counter() - started
    if process.returncode != 130 or "goes on where this one stopped" not in said:
        raise SystemExit(f"exit code {process.returncode}: {said}")
    return seconds


def many_cells(cells, example):
    """A row for each way to execute stages."""
    os.environ["STAND_IN"] = json.dumps({kind: str(at) for kind, at in example.folders.items()})
    local_cluster._SETTINGS["distributed.worker.preload"].append(Path(__file__).stem)
    dask_setup(None)
    Path("tiny.yaml").write_text(yaml.safe_dump(study(cells)))
    yield "in this process", run("alone", in_process=True)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", silence_logs=50,
        dashboard_address=None,
    ) as cluster:  # fmt: skip
        yield "on Dask, all in this process", run("dask", scheduler=cluster.scheduler_address)
    for jobs in (1, 2):
        yield f"on worker processes, --jobs {jobs}", run(f"jobs-{jobs}", jobs=jobs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200, help="cells of the study, 1 to 225")
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("tiny_net.py").write_text(NETWORK)
        Path("tiny.yaml").write_text(yaml.safe_dump(study(1)))
        options = bl.RunOptions(store="one", output="one-out", in_process=True)
        [example] = bl.run("tiny.yaml", options=options).cells
        print(f"{cells} cells of {len(example.cell.stages)} stages that do no work\n")
        print("| | time | processor time |\n|---|---|---|", flush=True)
        copied = copying(cells, example)
        rows = [("of each, copying the outputs", (None, *copied))]
        for name, (clock, wall, busy) in [*many_cells(cells, example), *rows]:
            start = f" (the first stage after {clock.start:.1f} s)" if clock else ""
            wall, busy = (1000 * seconds / cells for seconds in (wall, busy))
            print(f"| a cell {name}{start} | {wall:.1f} ms | {busy:.1f} ms |", flush=True)
        cached = ("run", "tiny.yaml", "--store", "dask")
        for name, words in (
            ("the report drawn", cached),
            ("a run with everything cached", cached),
            ("`plan`", ("plan", "tiny.yaml")),
        ):
            wall, busy = command(*words)
            print(f"| {name} | {wall:.2f} s | {busy:.2f} s |", flush=True)
        for name, words in (("in process", ["--in-process"]), ("2 workers", ["--jobs", "2"])):
            print(f"| Ctrl-C while it trains, {name} | {interrupt(*words):.2f} s | |", flush=True)


if __name__ == "__main__":
    main()
