"""What the benchmarks share: networks, training steps, interleaved timing, tables, charts."""

from __future__ import annotations

import argparse
import datetime
import importlib
import multiprocessing
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import Tensor, nn

from bitladder import models, simulation, tasks
from bitladder.options import Calibrate, ModelOptions, Precision
from bitladder.pipeline.local_cluster import WORKER_ENVIRONMENT
from bitladder.simulation.aimet import quiet

NETWORKS = ("mobilenet_v2", "resnet18", "shufflenet_v2_x0_5")
CLASSES = 10
_Key = TypeVar("_Key", bound=Hashable)
_Found = TypeVar("_Found")


def arguments(description: str | None, **defaults: object) -> argparse.Namespace:
    """Read the command line: ``--models``, ``--rounds``, ``--quick`` and what a script adds."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", nargs="+", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=8, help="the smallest time of these is taken")
    parser.add_argument("--quick", action="store_true", help="2 rounds, for a look")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    given.rounds = 2 if given.quick else given.rounds
    torch.set_num_threads(1)
    return given


def as_in_a_worker() -> None:
    """Start this program again in the environment of a study's worker processes, unless it is."""
    if any(os.environ.get(key) != value for key, value in WORKER_ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **WORKER_ENVIRONMENT})


def machine(threads: str = "one thread") -> str:
    """The processor, PyTorch and the day, for the head of a table."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    processor = names[0] if names else platform.processor()
    return f"{processor}, {threads}; torch {torch.__version__}; {datetime.date.today()}"


def batch(size: int, resolution: int = 32) -> tuple[Tensor, Tensor]:
    """Seeded random images (size, 1, resolution, resolution), channels last, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 1, resolution, resolution, generator=generator)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    return images.contiguous(memory_format=torch.channels_last), labels


def network(name: str, resolution: int = 32) -> nn.Module:
    """A float network with seeded weights and settled batch norms, in evaluation mode."""
    shape = (1, resolution, resolution)
    model = models.build(ModelOptions(name=name), classes=CLASSES, shapes=[shape], seed=0)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(batch(32, resolution)[0])
    return model.eval()


def simulated(
    model: nn.Module, precision: str, images: Tensor, method: str = "min_max"
) -> simulation.SimulatedModel:
    """The network as bitladder simulates it, with ranges from the first images."""
    shape = tuple(images.shape[1:])
    options = Calibrate(method=method)  # type: ignore[arg-type]
    parsed = Precision.parse(precision)
    quantized = simulation.SimulatedModel(
        simulation.prepare(model),
        parsed,
        shapes=[shape],  # type: ignore[arg-type]
        options=options,
    )
    quantized.calibrate(images[:32].contiguous())
    return quantized


TASK = tasks.find("classification")


def aimet(module: str) -> Any:
    """A module of AIMET's by its name there, imported without what it says on the way."""
    with quiet():
        return importlib.import_module(f"aimet_torch.{module}")


def with_aimet(model: nn.Module, bits: int, images: Tensor) -> nn.Module:
    """The network as AIMET simulates it on its own, with ranges from the first images."""
    sim = aimet("quantsim").QuantizationSimModel(
        simulation.prepare(model),
        torch.zeros(1, *images.shape[1:], device=images.device),
        default_param_bw=bits,
        default_output_bw=bits,
        in_place=True,
    )
    sim.compute_encodings(lambda module: module(images[:32]))
    return sim.model


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One step as bitladder trains: channels last, Adam, gradients clipped."""
    model.train().to(memory_format=torch.channels_last)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()

    return step


def steps(model: str, precision: str, size: int, resolution: int, rounds: int) -> dict[str, float]:
    """Seconds of a float and of a quantized step, and the peak memory of this process.

    In a process that does only this, both networks are what the memory is for.
    """
    torch.set_num_threads(1)
    images, labels = batch(size, resolution)
    runs = {"float": training_step(network(model, resolution), images, labels)}
    quantized = simulated(network(model, resolution), precision, images)
    runs["quantized"] = training_step(quantized, images, labels)
    best = interleave(runs, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**best, "gigabytes": peak}


def alone(function: Callable[..., _Found], *given: object, **environment: str) -> _Found:
    """Call a function in a process of its own, with these variables in its environment."""
    with (
        mock.patch.dict(os.environ, environment),
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return pool.apply(function, given)


def interleave(
    functions: Mapping[_Key, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.thread_time,
) -> dict[_Key, float]:
    """Smallest seconds of each function, run in turns after one run to warm up.

    Seconds are by default processor time of this thread: other processes on the machine count
    little.
    """
    best = dict.fromkeys(functions, float("inf"))
    for turn in range(rounds + 1):
        for name, function in functions.items():
            started = clock()
            function()
            seconds = clock() - started
            if turn:
                best[name] = min(best[name], seconds)
    return best


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for row in (heads, ["---"] * len(heads), *rows):
        print_row(row)


def print_row(cells: Sequence[str]) -> None:
    """Print a row of a Markdown table, at once."""
    print("| " + " | ".join(cells) + " |", flush=True)
