"""A training step in a worker's environment, where glibc keeps memory, over one in the usual one.

python benchmarks/allocator.py [--models ...] [--rounds 3]
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from measure import alone, arguments, machine, print_row, print_table, steps

from bitladder.pipeline.local_cluster import WORKER_ENVIRONMENT

_STEPS = 4
_ENVIRONMENTS = {
    "usual": {key: value for key, value in WORKER_ENVIRONMENT.items() if "THREADS" in key},
    "worker": WORKER_ENVIRONMENT,
}


def measure(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """The smallest figures of processes in both environments, which run in turns."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for kind, environment in _ENVIRONMENTS.items():
            found = alone(as_a_worker_does, name, **environment)
            before = best.get(kind, found)
            best[kind] = {key: min(value, before[key]) for key, value in found.items()}
    return best


def as_a_worker_does(name: str) -> dict[str, float]:
    """Both steps, not on the main thread of the process."""
    with ThreadPoolExecutor(1, initializer=torch.set_flush_denormal, initargs=(True,)) as thread:
        return thread.submit(steps, name, "w8a8", 256, 32, _STEPS).result()


def main() -> None:
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
