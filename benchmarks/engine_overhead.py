"""What the engine costs on top of the work: many cells of a tiny network, a cached run, a plan.

    python benchmarks/engine_overhead.py [--cells 200] [--jobs 1] [--in-process]

The work is what the stages say they took (``record.json``); the overhead is the rest of the run.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
    )
"""


def study(cells):
    widths = itertools.product(range(2, 17), range(2, 17))
    precisions = [f"w{weights}a{activations}" for weights, activations in widths]
    return {
        "datasets": [{"name": "embedded", "train": 600, "validation": 100}],
        "models": ["tiny_net:net"],
        "precisions": precisions[:cells],
        "train": {"epochs": 3, "batch_size": 100, "lr": 0.01},
        "recipe": ["fold_batch_norm", {"calibrate": {"images": 50, "method": "min_max"}}],
    }


def timed(folder, *arguments):
    """Run ``bitladder`` and return its seconds."""
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("bitladder")), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200, help="cells of the study, 1 to 225")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--in-process", action="store_true", help="no worker processes")
    options = parser.parse_args()
    how = ["--in-process"] if options.in_process else ["--jobs", str(options.jobs)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny_net.py").write_text(NETWORK)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(study(options.cells)))
        run = ["run", "tiny.yaml", "--store", "store", *how]
        startup = timed(folder, *run[:2], "precisions=[8]", *run[2:], "--output", "one")
        before = work(folder / "store")
        alone = startup - before / options.jobs
        wall = timed(folder, *run)
        worked = (work(folder / "store") - before) / options.jobs
        cells = options.cells
        print(f"{cells} cells, {' '.join(how)}")
        print(f"  run                  {wall:8.2f} s")
        print(f"  work of its stages   {worked:8.2f} s for each worker")
        print(f"  overhead a cell      {1000 * (wall - worked) / cells:8.2f} ms with start-up")
        print(f"  overhead a cell      {1000 * (wall - worked - alone) / cells:8.2f} ms without")
        print(f"  start-up             {alone:8.2f} s (a run of one cell less its work)")
        print(f"  second run, cached   {timed(folder, *run):8.2f} s")
        print(f"  plan                 {timed(folder, 'plan', 'tiny.yaml'):8.2f} s")


def work(store):
    """Seconds of all stages in a store."""
    records = (store / "stages").glob("*/record.json")
    return sum(json.loads(record.read_text())["seconds"] for record in records)


if __name__ == "__main__":
    main()
