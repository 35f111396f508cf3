"""bitladder on a GPU: whether its values are the CPU's, and what quantization costs there.

python benchmarks/gpu.py [--device cuda] [--output FOLDER] [--models ...] [--quick]

On a machine with a GPU it takes some minutes; ``--device cpu --quick`` runs all of it anywhere.
"""

from __future__ import annotations

import copy
import csv
import datetime
import functools
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from gpu_values import Check, checks
from measure import (
    CLASSES,
    TASK,
    aimet,
    arguments,
    batch,
    interleave,
    machine,
    network,
    print_row,
    print_table,
    training_step,
    with_aimet,
)
from torch import Tensor, nn

from bitladder import simulation, techniques, training
from bitladder.data.splits import TensorSplit
from bitladder.options import Adaround, Calibrate, Precision, TrainOptions
from bitladder.pipeline.environment import describe_environment

_CALLS = 5  # of a step between two readings of a GPU's clock
_BITS = (8, 4)


@dataclass(frozen=True)
class Sizes:
    """How much is run: (images a batch, resolution) of a step, and the rest."""

    steps: tuple[tuple[int, int], ...] = ((256, 32), (64, 224))
    images: int = 1000
    batch: int = 250
    iterations: int = 10
    fit: int = 30


_QUICK = Sizes(steps=((4, 32),), images=8, batch=4, iterations=2, fit=2)


@dataclass(frozen=True)
class Time:
    """One row: seconds of the float network, and what others take over it.

    Attributes:
        what: the quantity.
        network: its name.
        case: batch, resolution, bits.
        unit: of the first figure.
        float: the float network's.
        bitladder: over ``float`` where there is one, else in the unit itself.
        aimet: AIMET alone, likewise.
    """

    what: str
    network: str
    case: str
    unit: str
    float: float | None
    bitladder: float | str | None
    aimet: float | str | None


def times(device: str, name: str, sizes: Sizes, rounds: int) -> Iterator[Time]:
    """All times of one network; what fails is a row that says so."""
    parts: list[tuple[str, Callable[[], Iterator[Time]]]] = [
        ("QAT step / float step", lambda: _steps(device, name, sizes, rounds)),
        ("evaluation, simulated / float", lambda: _evaluation(device, name, sizes, rounds)),
        ("calibration / float forward", lambda: _calibration(device, name, sizes)),
        ("AdaRound", lambda: _adaround(device, name, sizes)),
        ("finetune step / train step", lambda: _fit(device, name, sizes)),
    ]
    for what, part in parts:
        try:
            yield from part()
        except Exception as error:  # the other times still say something
            first = " ".join(str(error).strip().splitlines()[:1])
            yield Time(what, name, "", "", None, f"{type(error).__name__}: {first}"[:200], None)
        if device == "cuda":
            torch.cuda.empty_cache()


def _steps(device: str, name: str, sizes: Sizes, rounds: int) -> Iterator[Time]:
    """Training steps at each batch and resolution, in turns."""
    for size, resolution in sizes.steps:
        images, labels = (tensor.to(device) for tensor in batch(size, resolution))
        runs = {"float": training_step(_network(name, device, resolution), images, labels)}
        firsts = {}
        for bits in _BITS:
            models: dict[str, nn.Module] = {
                "bitladder": _simulated(name, device, resolution, bits, images)
            }
            models["AIMET"] = with_aimet(_network(name, device, resolution), bits, images[:32])
            for library, model in models.items():
                runs[f"{library} {bits}"] = step = training_step(model, images, labels)
                started = time.perf_counter()
                step()
                firsts[f"{library} {bits}"] = time.perf_counter() - started
        best = _fastest(runs, rounds, device)
        case = f"{resolution}x{resolution}, batch {size}"
        for bits in _BITS:
            ours, theirs = (best[f"{of} {bits}"] / best["float"] for of in ("bitladder", "AIMET"))
            seconds = 1000 * best["float"]
            title = "QAT step / float step"
            yield Time(title, name, f"{case}, w{bits}a{bits}", "ms", seconds, ours, theirs)
        first = [round(firsts[f"{of} 8"], 2) for of in ("bitladder", "AIMET")]
        yield Time("first QAT step", name, f"{case}, w8a8", "s", None, first[0], first[1])


def _evaluation(device: str, name: str, sizes: Sizes, rounds: int) -> Iterator[Time]:
    images, labels = batch(sizes.images)
    batches = [
        (some.to(device), marks)
        for some, marks in zip(images.split(sizes.batch), labels.split(sizes.batch), strict=True)
    ]
    calibration = batches[0][0]
    networks: dict[str, nn.Module] = {
        "float": _network(name, device),
        "bitladder": _simulated(name, device, 32, 8, calibration),
        "AIMET": with_aimet(_network(name, device), 8, calibration[:32]),
    }
    runs = {}
    for key, model in networks.items():
        model.to(memory_format=torch.channels_last)
        runs[key] = lambda model=model: training.evaluate(model, batches, TASK)
    best = _fastest(runs, rounds, device)
    case = f"{sizes.images} images of 32x32, w8a8"
    ratios = (best[key] / best["float"] for key in ("bitladder", "AIMET"))
    yield Time("evaluation, simulated / float", name, case, "ms", 1000 * best["float"], *ratios)


def _calibration(device: str, name: str, sizes: Sizes) -> Iterator[Time]:
    images = batch(sizes.images)[0].to(device).contiguous()
    clock, model = _clock(device), _network(name, device)
    forward = _fastest({"float": lambda: simulation.outputs(model, images)}, 3, device)["float"]
    for method in ("min_max", "sqnr"):
        ours = _unset(name, device, method)
        started = clock()
        ours.calibrate(images)
        ratio = (clock() - started) / forward
        theirs = None
        if method == "sqnr":
            sim = aimet("quantsim").QuantizationSimModel(
                simulation.prepare(_network(name, device)),
                torch.zeros(1, *images.shape[1:], device=device),
                quant_scheme="tf_enhanced",
                in_place=True,
            )
            started = clock()
            sim.compute_encodings(lambda module: simulation.outputs(module, images))
            theirs = (clock() - started) / forward
        case = f"{sizes.images} images of 32x32, {method}"
        title = "calibration / float forward"
        yield Time(title, name, case, "ms", 1000 * forward, ratio, theirs)


def _adaround(device: str, name: str, sizes: Sizes) -> Iterator[Time]:
    """Milliseconds an iteration and layer, from runs of two lengths."""
    images, clock, spent = batch(64)[0].contiguous(), _clock(device), []
    layers = 0
    for iterations in (sizes.iterations, 2 * sizes.iterations):
        simulated = _simulated(name, device, 32, 8, images.to(device))
        layers = sum(info.kind == "weight" for info, _ in simulated.quantizers())
        context = techniques.Context(Precision(8, 8), (images,), simulated)
        options = Adaround(iterations=iterations, images=64)
        started = clock()
        techniques.apply(options, simulated, context)
        spent.append(clock() - started)
    found = 1000 * (spent[1] - spent[0]) / sizes.iterations / layers
    case = f"{layers} layers, {sizes.iterations} iterations, 64 images of 32x32"
    yield Time("AdaRound, an iteration and layer", name, case, "ms", None, round(found, 3), None)


def _fit(device: str, name: str, sizes: Sizes) -> Iterator[Time]:
    """A step of the training loop itself; the simulated network trains in float32."""
    size, resolution = sizes.steps[0]
    images, labels = batch(size * sizes.fit, resolution)
    split = TensorSplit((255 * images).byte(), labels)
    models: dict[str, nn.Module] = {
        "float": _network(name, device),
        "bitladder": _simulated(name, device, resolution, 8, images[:size].to(device)),
    }
    accelerator: Any = "cpu" if device == "cpu" else "gpu"
    seconds = {}
    for key, model in models.items():
        options = TrainOptions(
            steps=1,
            batch_size=size,
            lr=1e-4,
            early_stopping=None,
            accelerator=accelerator,
            amp="auto" if key == "float" else "off",  # as train and finetune do
        )
        spent = {}
        for steps in (1, sizes.fit, 2 * sizes.fit):  # the first run alone pays for warming up
            run = options.model_copy(update={"steps": steps})
            spent[steps] = _fit_seconds(model, split, run)
        seconds[key] = (spent[2 * sizes.fit] - spent[sizes.fit]) / sizes.fit
    case = f"{resolution}x{resolution}, batch {size}, w8a8"
    title, ratio = "finetune step / train step", seconds["bitladder"] / seconds["float"]
    yield Time(title, name, case, "ms", 1000 * seconds["float"], ratio, None)


def _fit_seconds(model: nn.Module, split: TensorSplit, options: TrainOptions) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        log = Path(folder)
        training.fit(model, split, None, options, TASK, seed=0, log_dir=log, classes=CLASSES)
        return time.perf_counter() - started


_settled = functools.cache(network)


def _network(name: str, device: str, resolution: int = 32) -> nn.Module:
    return copy.deepcopy(_settled(name, resolution)).to(device)


def _unset(name: str, device: str, method: str, resolution: int = 32, bits: int = 8) -> Any:
    """A simulated network without ranges."""
    return simulation.SimulatedModel(
        simulation.prepare(_network(name, device, resolution)),
        Precision(bits, bits),
        shapes=[(1, resolution, resolution)],
        options=Calibrate(method=method),  # type: ignore[arg-type]
    )


def _simulated(name: str, device: str, resolution: int, bits: int, images: Tensor) -> Any:
    simulated = _unset(name, device, "min_max", resolution, bits)
    simulated.calibrate(images[:32].contiguous())
    return simulated


def _clock(device: str) -> Callable[[], float]:
    """Wall time once the GPU has done what it was given; processor time on the CPU."""
    if device == "cpu":
        return time.thread_time

    def wall() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return wall


def _fastest(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, float]:
    """Smallest seconds of each function; on a GPU several calls follow without a wait."""
    if device == "cpu":
        return interleave(runs, rounds)

    def several(function: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(_CALLS):
                function()

        return run

    found = interleave({k: several(f) for k, f in runs.items()}, rounds, _clock(device))
    return {key: seconds / _CALLS for key, seconds in found.items()}


def _card(device: str) -> str:
    """What was measured on, for the head of the tables."""
    if device == "cpu":
        return f"no GPU: {machine()}"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1] / 2**30
    return (
        f"{name}, {memory:.0f} GiB, driver {driver}; torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}; {datetime.date.today()}"
    )


def _cell(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.3g}"


class _Output:
    """Rows printed as they come, and kept as CSV where a folder is given."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder) if folder else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def environment(self, card: str) -> None:
        if self.folder is not None:
            described = {**describe_environment(), "device": card, "command": sys.argv[1:]}
            path = self.folder / "environment.json"
            path.write_text(json.dumps(described, indent=2) + "\n")

    def table(self, name: str, kind: type, rows: Iterator[Any], heads: list[str]) -> list[Any]:
        """Print a table of dataclasses and write it."""
        names = [field.name for field in fields(kind)]
        print_table(heads, [])
        seen = []
        for row in rows:
            seen.append(row)
            cells = [getattr(row, each) for each in names]
            print_row([str(c) if isinstance(c, bool | int) else _cell(c) for c in cells])
            if self.folder is not None:
                with (self.folder / f"{name}.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, names, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(map(asdict, seen))
        print(flush=True)
        return seen


def main() -> None:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    given = arguments(__doc__, device=found, output="", only="")
    sizes = _QUICK if given.quick else Sizes()
    warnings.simplefilter("ignore")
    card, output = _card(given.device), _Output(given.output)
    output.environment(card)
    failed = 0
    print(f"{card}\n", flush=True)
    if given.only in ("", "values"):
        print("Values of the device against the CPU's, TF32 off where not said:\n")
        heads = ["what", "case", "values", "differing", "farthest", "holds", "rule"]
        rows = output.table(
            "values", Check, checks(given.device, given.models[-1], given.quick), heads
        )
        failed = sum(not row.equal for row in rows)
    if given.only in ("", "times"):
        print(f"Times; smallest of {given.rounds} rounds, libraries in turns:\n")
        rows = (
            row for name in given.models for row in times(given.device, name, sizes, given.rounds)
        )
        heads = ["what", "network", "case", "unit", "float", "bitladder", "AIMET"]
        output.table("times", Time, rows, heads)
    print(f"{failed} checks do not hold")
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
