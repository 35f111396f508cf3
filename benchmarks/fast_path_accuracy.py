"""Accuracy after quantization-aware training with the fast path and with AIMET's own.

Same seeds, same images, same steps. AIMET's own path is its modules and quantizers without the
kernel (``BITLADDER_KERNEL=0``) and without the executor.

python benchmarks/fast_path_accuracy.py [--seeds 5] [--steps 60] [--models ...] [--dataset NAME]
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from measure import TASK, alone, arguments, machine, print_row, print_table
from scipy import stats

from bitladder import data, models, simulation, training
from bitladder.measurement import Measurement
from bitladder.options import (
    Calibrate,
    DatasetOptions,
    LoaderOptions,
    ModelOptions,
    Precision,
    TrainOptions,
)
from bitladder.techniques.fold_batch_norm import fold_batch_norm

_FLOAT_STEPS = 100
_PATHS: tuple[dict[str, str], ...] = ({}, {"BITLADDER_KERNEL": "0"})  # whether there is a kernel


def rungs(dataset: str, name: str, seed: int, steps: int) -> list[Measurement]:
    """Accuracy of the float network, calibrated at w4a4, and trained at w4a4."""
    torch.set_num_threads(1)
    loaded = data.load(DatasetOptions(name=dataset), LoaderOptions(), seed=seed)
    model = models.build(
        ModelOptions(name=name), classes=loaded.classes, shapes=loaded.shapes, seed=seed
    )
    fit(model, loaded, seed, _FLOAT_STEPS, 2e-3)
    found = [accuracy(model, loaded)]
    folded, _ = fold_batch_norm(model)
    quantized = simulation.SimulatedModel(
        folded,
        Precision(4, 4),
        shapes=loaded.shapes,
        options=Calibrate(images=500),
    )
    trained = quantized.module if os.environ.get("BITLADDER_KERNEL") == "0" else quantized
    quantized.calibrate(data.calibration_images(loaded, 500), TASK)
    found.append(accuracy(trained, loaded))
    fit(trained, loaded, seed, steps, 1e-3)
    return [*found, accuracy(trained, loaded)]


def fit(model: torch.nn.Module, loaded: data.ImageData, seed: int, steps: int, lr: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            model,
            loaded.train,
            None,
            TrainOptions(steps=steps, lr=lr, early_stopping=None),
            TASK,
            seed=seed,
            log_dir=Path(folder),
            classes=loaded.classes,
        )


def accuracy(model: torch.nn.Module, loaded: data.ImageData) -> Measurement:
    return training.evaluate(model, loaded.validation.batches(250), TASK)


def main() -> None:
    given = arguments(__doc__, seeds=5, steps=60, dataset="embedded")
    print(f"{machine()}; {given.dataset}; w4a4, {_FLOAT_STEPS} float steps, {given.steps} of QAT\n")
    heads = ["network", "seed", "float", "calibrated, fast", "AIMET's own"]
    print_table([*heads, "after QAT, fast", "AIMET's own"], [])
    for name in given.models:
        differences = []
        for seed in range(given.seeds):
            work = (given.dataset, name, seed, given.steps)
            fast, own = (alone(rungs, *work, **path) for path in _PATHS)
            assert fast[0] == own[0]  # the same float network
            cells = [fast[0], fast[1], own[1], fast[2], own[2]]
            print_row([name, str(seed), *map(str, cells)])
            differences.append(fast[2].value - own[2].value)
        print(f"\n{name}: fast - own {mean_with_interval(differences)}\n", flush=True)


def mean_with_interval(differences: list[float]) -> str:
    """Mean over seeds with its 95 % interval (Student's t)."""
    values = torch.tensor(differences, dtype=torch.float64)
    middle, deviation = float(values.mean()), float(values.std())
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * deviation / len(differences) ** 0.5
    return f"{middle:+.4f} [{middle - half:+.4f}, {middle + half:+.4f}]"


if __name__ == "__main__":
    main()
