"""Accuracy and seconds of post-training recipes, without labels, at one precision.

python benchmarks/post_training.py [--model shufflenet_v2_x0_5] [--precisions w4a4] [--seeds 1]

A network is trained for a few hundred steps on Fashion-MNIST (the built-in data set, or the
embedded part of it with --quick), then quantized by each recipe from the same 1,024 calibration
images, and measured on the validation images.
"""

import argparse
import time
from pathlib import Path
from statistics import mean

import torch

import bitladder as bl
from bitladder import data, models, tasks, training
from bitladder.options import DatasetOptions, LoaderOptions, ModelOptions, TrainOptions

CALIBRATION = 1024
RECIPES = {
    "calibrate": ["fold_batch_norm", "calibrate"],
    "ptq": "ptq",
    "reconstruct": ["fold_batch_norm", "calibrate", "reconstruct"],
    "distilled": "distilled",
}


def main() -> None:
    """Print a table, a row a recipe and precision, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="shufflenet_v2_x0_5")
    parser.add_argument("--precisions", default="w4a4")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--steps", type=int, default=430, help="of float training")
    parser.add_argument("--quick", action="store_true", help="the embedded images, 20 steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print("| model | precision | recipe | float | accuracy | loss, points | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    trained = [train(options, seed) for seed in seeds]
    for precision in options.precisions.split(","):
        for name, recipe in RECIPES.items():
            rows = [measure(*one, precision, recipe) for one in trained]
            real, found, seconds = (mean(column) for column in zip(*rows, strict=True))
            print(
                f"| {options.model} | {precision} | `{name}` | {real:.2f} | {found:.2f} | "
                f"{real - found:.2f} | {seconds:.0f} |",
                flush=True,
            )


def train(options: argparse.Namespace, seed: int):
    """The trained network and its data set."""
    task = tasks.find("classification")
    name = "embedded" if options.quick else "fashion_mnist"
    images = data.load(DatasetOptions(name=name), LoaderOptions(), seed=seed, task=task)
    network = models.build(
        ModelOptions(name=options.model),
        classes=images.classes,
        shapes=images.shapes,
        seed=seed,
        task=task,
    )
    steps = 20 if options.quick else options.steps
    training.fit(
        network,
        images.train,
        None,
        TrainOptions(steps=steps, lr=4e-3, batch_size=256, early_stopping=None),
        task,
        seed=seed,
        log_dir=Path("runs") / "post_training",
    )
    return network.eval(), images, task, seed


def measure(network, images, task, seed, precision, recipe) -> tuple[float, float, float]:
    """Percent of the validation images that float and quantized network get right; seconds."""
    calibration = data.calibration_images(images, CALIBRATION)
    started = time.perf_counter()
    quantized = bl.quantize(
        network, calibration, precision, recipe, task="classification", seed=seed, progress=False
    )
    seconds = time.perf_counter() - started
    batches = images.validation.batches(250)
    real = training.evaluate(network, batches, task).value
    return 100 * real, 100 * training.evaluate(quantized.simulated, batches, task).value, seconds


if __name__ == "__main__":
    main()
