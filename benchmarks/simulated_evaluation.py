"""Evaluation of the simulated network over that of the float network, as in a study's worker.

python benchmarks/simulated_evaluation.py [--images 1000] [--models ...] [--quick]
"""

from collections.abc import Callable

import torch
from measure import (
    TASK,
    arguments,
    as_in_a_worker,
    batch,
    interleave,
    machine,
    network,
    print_row,
    print_table,
    simulated,
    with_aimet,
)
from torch import Tensor, nn

from bitladder import training

BATCH = 250  # as a study evaluates


def evaluation(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], object]:
    """Count what the network has right of all images, channels last."""
    model.to(memory_format=torch.channels_last)
    batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    return lambda: training.evaluate(model, batches, TASK)


def main() -> None:
    as_in_a_worker()
    given = arguments(__doc__, images=1000)
    images, labels = batch(given.images)
    print(f"{machine()}; {given.images} images, 32x32; smallest of {given.rounds} evaluations\n")
    names = ("bitladder w8a8", "bitladder w4a4", "AIMET w8a8")
    print_table(["simulated / float", "float", *names], [])
    for name in given.models:
        networks = {
            "float": network(name),
            "bitladder w8a8": simulated(network(name), "w8a8", images),
            "bitladder w4a4": simulated(network(name), "w4a4", images),
            "AIMET w8a8": with_aimet(network(name), 8, images),
        }
        runs = {key: evaluation(model, images, labels) for key, model in networks.items()}
        best = interleave(runs, given.rounds)
        ratios = [f"{best[label] / best['float']:.2f}" for label in names]
        print_row([name, f"{1000 * best['float']:.0f} ms", *ratios])


if __name__ == "__main__":
    main()
