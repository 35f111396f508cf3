"""Images a second of an image folder, inside a worker process: read first, later, and streamed.

    python benchmarks/image_folder.py [--images 1000] [--workers 2] [--quick]

The pictures are drawn: PNGs of 32x32, and JPEGs of 500x375 that become 224x224. A pass takes every
training image in batches of 64, as float32. All passes of a row run in turns in one process.
Passes over arrays are timed by processor time of their thread; decoding, which other processes
do, by the clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measure import alone, machine, print_row, print_table
from PIL import Image

from bitladder.data import Split, load
from bitladder.data.splits import TensorSplit
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline.local_cluster import WORKER_ENVIRONMENT

_BATCH = 64
_SIZES = {32: ((32, 32), "png"), 224: ((500, 375), "jpg")}
_CLASSES = 4
_ARRAY_ROUNDS = 5


def draw(root: Path, size: int, images: int) -> None:
    """Write pictures with structure, so that they compress and decode as photographs do."""
    shape, suffix = _SIZES[size]
    random = np.random.default_rng(0)
    for index in range(images):
        folder = root / f"class{index % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (shape[1] // 8, shape[0] // 8, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(shape), np.int16)
        fine = smooth + random.integers(-9, 9, (shape[1], shape[0], 3))
        picture = Image.fromarray(fine.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{index}.{suffix}", quality=90)


def one_pass(split: Split, clock: Callable[[], float] = time.perf_counter) -> float:
    """Images a second of a pass over a split."""
    started = clock()
    seen = sum(len(labels) for _, labels in split.batches(_BATCH, shuffle_seed=1))
    return seen / (clock() - started)


def measure(root: str, size: int, workers: int, rounds: int) -> Mapping[str, float]:
    """Images a second, the fastest of each kind of pass; not on the main thread, as in a stage."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_measure, root, size, workers, rounds).result()


def _measure(root: str, size: int, workers: int, rounds: int) -> Mapping[str, float]:
    def read(gib: float, processes: int) -> Split:
        options = DatasetOptions(name=root, size=size)
        return load(options, LoaderOptions(workers=processes, decoded_gib=gib), seed=1).train

    started = time.perf_counter()
    kept = read(1000, workers)
    first = time.perf_counter() - started
    started = time.perf_counter()
    read(1000, workers)
    found = {"first": kept.images / first, "opened": time.perf_counter() - started}
    assert isinstance(kept, TensorSplit)
    memory = TensorSplit(kept.pixels[kept.rows].clone(), kept.targets)
    arrays = {"memory": memory, "later": kept}
    for _ in range(_ARRAY_ROUNDS * rounds):
        for name, split in arrays.items():
            found[name] = max(found.get(name, 0), one_pass(split, time.thread_time))
    files = {"streamed": read(0, workers), "streamed here": read(0, 0)}
    for _ in range(rounds):
        for name, split in files.items():
            found[name] = max(found.get(name, 0), one_pass(split))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4, help="the fastest pass of these is taken")
    parser.add_argument("--quick", action="store_true", help="200 images and 2 rounds, for a look")
    given = parser.parse_args()
    images, rounds = (200, 2) if given.quick else (given.images, given.rounds)
    cores = os.cpu_count() or 1
    print(f"{machine(f'{cores} cores')}; {images} images, {given.workers} workers; images/s\n")
    heads = ["folder", "first, decoded and kept", "opened again", "in memory", "later passes"]
    print_table([*heads, "later / in memory", "streamed", "streamed, no workers"], [])
    for size, (shape, suffix) in _SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "pictures"
            draw(root, size, images)
            environment = {**WORKER_ENVIRONMENT, "BITLADDER_CACHE": folder}
            found = alone(measure, str(root), size, given.workers, rounds, **environment)
        print_row(
            [
                f"{suffix.upper()} {shape[0]}x{shape[1]}, size {size}",
                f"{found['first']:,.0f}",
                f"in {found['opened']:.2f} s",
                f"{found['memory']:,.0f}",
                f"{found['later']:,.0f}",
                f"{found['later'] / found['memory']:.2f}",
                f"{found['streamed']:,.0f}",
                f"{found['streamed here']:,.0f}",
            ]
        )


if __name__ == "__main__":
    main()
