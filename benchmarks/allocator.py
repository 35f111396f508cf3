"""A training step in a worker's environment, where glibc keeps memory, over one in the usual one.

python benchmarks/allocator.py [--models ...] [--rounds 3]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading

import torch
from measure import (
    arguments,
    batch,
    interleave,
    machine,
    network,
    print_row,
    print_table,
    simulated,
    training_step,
)

from bitladder.pipeline.local_cluster import WORKER_ENVIRONMENT

_STEPS = 4
_ENVIRONMENTS = {
    "usual": {key: value for key, value in WORKER_ENVIRONMENT.items() if "THREADS" in key},
    "worker": WORKER_ENVIRONMENT,
}


def steps(name: str) -> None:
    """Print seconds of a float and of a quantized step, and the process's peak memory."""
    torch.set_flush_denormal(True)
    images, labels = batch(256)
    runs = {
        "float": training_step(network(name), images, labels),
        "quantized": training_step(simulated(network(name), "w8a8", images), images, labels),
    }
    found = interleave(runs, _STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**found, "gigabytes": peak}))


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """The smallest figures of processes in both environments, which run in turns."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for kind, environment in _ENVIRONMENTS.items():
            command = [sys.executable, __file__, "--models", name, "--steps"]
            environment = {**os.environ, **environment}
            text = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout
            found = json.loads(text.splitlines()[-1])
            before = best.get(kind, found)
            best[kind] = {key: min(value, before[key]) for key, value in found.items()}
    return best


def main() -> None:
    if sys.argv[-1] == "--steps":  # as in a worker, not on the process's main thread
        thread = threading.Thread(target=steps, args=(sys.argv[-2],))
        thread.start()
        thread.join()
        return
    given = arguments(__doc__)
    print(f"{machine()}; batch 256, 32x32; smallest of {given.rounds} processes\n")
    heads = ["", "float step", "in a worker", "ratio", "QAT step", "in a worker", "ratio"]
    print_table([*heads, "peak memory", "in a worker"], [])
    for name in given.models:
        found = measure(name, given.rounds)
        cells = [name]
        for key in ("float", "quantized"):
            usual, worker = (found[kind][key] for kind in _ENVIRONMENTS)
            cells += [f"{1000 * usual:.0f} ms", f"{1000 * worker:.0f} ms", f"{worker / usual:.2f}"]
        print_row([*cells, *(f"{found[kind]['gigabytes']:.2f} GB" for kind in _ENVIRONMENTS)])


if __name__ == "__main__":
    main()
