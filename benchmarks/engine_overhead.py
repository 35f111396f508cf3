"""What the engine costs on top of the work: many cells of a tiny network, a cached run, a plan.

    python benchmarks/engine_overhead.py [--cells 200]

One cell is run for real. In the runs of many cells each stage copies what the stage of its kind
wrote there, so that all the time they take is the engine's: keys, locks, hashes, Dask, results;
the report is drawn by the first of the cached runs.
Where other programs have the cores, processor time says more than time.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from distributed import LocalCluster

import bitladder as bl
from bitladder import pipeline
from bitladder.pipeline import stages

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
    )
"""
WIDTHS = [f"w{weights}a{bits}" for weights, bits in itertools.product(range(2, 17), repeat=2)]


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


def run(store, output, **options):
    """Run the study; (seconds, seconds of processor time); every cell must be complete."""
    started = time.perf_counter(), time.process_time()
    results = pipeline.run(
        "tiny.yaml", options=bl.RunOptions(store=store, output=output, **options)
    )
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    if any(cell.status != "complete" for cell in results.cells):
        raise SystemExit(results.table().to_string())
    return seconds


def copy_of(example):
    """A stand-in for the work: the output of the stage of the same kind in ``example``."""
    folders = {stage.kind: example.folders[stage.kind] for stage in example.cell.stages}

    def perform(stage, bench, output):
        own = shutil.ignore_patterns("manifest.json", "checked.json")  # of the store, for each
        shutil.copytree(folders[stage.kind], output, dirs_exist_ok=True, ignore=own)

    return perform


def command(*arguments):
    """Run ``bitladder``; (seconds, seconds of processor time)."""
    started, before = time.perf_counter(), os.times()
    program = str(Path(sys.executable).with_name("bitladder"))
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    after = os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of child processes
    return time.perf_counter() - started, busy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200, help="cells of the study, 1 to 225")
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("tiny_net.py").write_text(NETWORK)
        Path("tiny.yaml").write_text(yaml.safe_dump(study(1)))
        options = bl.RunOptions(store="one", output="out", in_process=True)
        [example] = bl.run("tiny.yaml", options=options).cells
        Path("tiny.yaml").write_text(yaml.safe_dump(study(cells)))
        stages.perform = copy_of(example)
        alone = run("alone", "alone-out", in_process=True)
        with LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", silence_logs=50,
            dashboard_address=None,
        ) as cluster:  # fmt: skip
            dask = run("dask", "dask-out", scheduler=cluster.scheduler_address)
        print(f"{cells} cells of {len(example.cell.stages)} stages that do no work")
        for name, found in (("in this process", alone), ("on a Dask worker", dask)):
            wall, busy = (1000 * seconds / cells for seconds in found)
            print(f"  {name:17} {wall:7.1f} ms a cell, {busy:7.1f} ms of processor time")
        cached = ("run", "tiny.yaml", "--store", "dask")
        for name, words in (
            ("the report drawn", cached),
            ("run, all cached", cached),
            ("plan", ("plan", "tiny.yaml")),
        ):
            wall, busy = command(*words)
            print(f"  {name:17} {wall:7.2f} s,         {busy:7.2f} s of processor time")


if __name__ == "__main__":
    main()
