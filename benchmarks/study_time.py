"""A study's time against its cells and its workers: real cells on the embedded images, few steps.

    python benchmarks/study_time.py [--cells 2 4 8 16] [--workers 1 2] [--steps 40] [--chart FILE]

Every study begins with an empty store: it trains the float network once, then quantizes,
fine-tunes, exports and verifies each of its cells, whose precisions differ.
"""

import argparse
import os
import tempfile
import threading
import time

import altair
import pandas
import psutil
from measure import machine, print_table

import bitladder as bl
from bitladder import pipeline
from bitladder.report.palette import LIGHT, chart_config
from bitladder.study import Study

PRECISIONS = [f"w{weights}a{bits}" for bits in (8, 7, 6, 5) for weights in (8, 7, 6, 5, 4, 3)]
_MEBIBYTE = 2**20


def study(cells, model, steps):
    return Study.model_validate(
        {
            "name": "study-time",
            "datasets": ["embedded"],
            "models": [model],
            "precisions": PRECISIONS[:cells],
            "train": {"steps": 3 * steps, "lr": 0.01},
            "recipe": [
                "fold_batch_norm",
                {"calibrate": {"images": 200}},
                {"finetune": {"steps": steps, "lr": 0.001}},
            ],
        }
    )


class Memory(threading.Thread):
    """Looks at the worker processes five times a second; the most memory that one has had."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.2):
            for child in psutil.Process().children():
                try:
                    self.peak = max(self.peak, child.memory_info().rss)
                except psutil.Error:  # it has just ended
                    continue

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.join()


def measure(cells, workers, model, steps):
    """Seconds for the study and for its report, and the most bytes that a worker process had."""
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        options = bl.RunOptions(output=f"{folder}/out", store=f"{folder}/store", jobs=workers)
        started = time.perf_counter()
        results = pipeline.run(study(cells, model, steps), options=options)
        seconds = time.perf_counter() - started
        if results.failed:
            raise SystemExit(results.failed[0].error)
        bl.write_report(results.output)
        return seconds, time.perf_counter() - started - seconds, memory.peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[2, 4, 8, 16], help="up to 24")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--steps", type=int, default=40, help="of fine-tuning, 10 or more; training has thrice"
    )
    parser.add_argument("--model", default="shufflenet_v2_x0_5")
    parser.add_argument("--chart", help="an SVG file to write")
    given = parser.parse_args()
    rows = []
    for workers in given.workers:
        for cells in given.cells:
            seconds, report, peak = measure(cells, workers, given.model, given.steps)
            rows.append(
                {
                    "workers": workers,
                    "cells": cells,
                    "minutes": seconds / 60,
                    "peak": peak / _MEBIBYTE,
                    "report": report,
                }
            )
            print("  ".join(_cells(rows[-1])), flush=True)
    where = machine(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"\n{where}; {given.model}, {given.steps} steps\n")
    heads = ["workers", "cells", "study", "cells a minute", "peak memory of a worker", "report"]
    print_table(heads, [_cells(row) for row in rows])
    if given.chart:
        chart(rows).save(given.chart)


def _cells(row):
    return [
        str(row["workers"]),
        str(row["cells"]),
        f"{60 * row['minutes']:.0f} s",
        f"{row['cells'] / row['minutes']:.1f}",
        f"{row['peak']:.0f} MiB",
        f"{row['report']:.0f} s",
    ]


def chart(rows):
    """Two panels against the number of cells, a line for each number of workers."""
    lines = (
        altair.Chart(pandas.DataFrame(rows), width=300, height=180)
        .mark_line(point=True)
        .encode(altair.X("cells:Q"), altair.Color("workers:N"))
    )
    panels = {"minutes:Q": "study, minutes", "peak:Q": "peak memory of a worker, MiB"}
    drawn = [lines.encode(altair.Y(name, title=title)) for name, title in panels.items()]
    return altair.hconcat(*drawn).configure(**chart_config(LIGHT))


if __name__ == "__main__":
    main()
