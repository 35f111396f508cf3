"""Seconds to find all ranges over seconds of the float network over the same images.

python benchmarks/calibration.py [--images 1000] [--models ...] [--quick]
"""

from __future__ import annotations

import time

import torch
from measure import (
    aimet,
    arguments,
    as_in_a_worker,
    batch,
    machine,
    network,
    print_row,
    print_table,
)
from torch import Tensor, nn

from bitladder import simulation
from bitladder.options import Calibrate, Precision

_METHODS = ("min_max", "sqnr", "mse", "percentile", "entropy")


def float_seconds(model: nn.Module, images: Tensor, rounds: int) -> float:
    """Smallest time of the forwards, in the faster of both memory formats."""
    best = float("inf")
    for layout in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=layout)
        given = images.contiguous(memory_format=layout)
        for _ in range(rounds):
            started = time.thread_time()
            simulation.outputs(model, given)
            best = min(best, time.thread_time() - started)
    return best


def bitladder_seconds(name: str, images: Tensor, method: str, rounds: int) -> float:
    """Smallest time to find all ranges of a network that has none."""
    best = float("inf")
    for _ in range(rounds):
        quantized = simulation.SimulatedModel(
            simulation.prepare(network(name)),
            Precision(8, 8),
            shapes=[(1, 32, 32)],
            options=Calibrate(method=method),  # type: ignore[arg-type]
        )
        started = time.thread_time()
        quantized.calibrate(images)
        best = min(best, time.thread_time() - started)
    return best


def aimet_seconds(name: str, images: Tensor) -> float:
    """AIMET alone, with the method that is its own default, ``tf_enhanced``."""
    quantsim = aimet("quantsim")
    sim = quantsim.QuantizationSimModel(
        simulation.prepare(network(name)),
        torch.zeros(1, 1, 32, 32),
        quant_scheme="tf_enhanced",
        in_place=True,
    )
    started = time.thread_time()
    sim.compute_encodings(lambda module: simulation.outputs(module, images))
    return time.thread_time() - started


def main() -> None:
    as_in_a_worker()
    given = arguments(__doc__, images=1000)
    images = batch(given.images)[0].contiguous()
    print(f"{machine()}; {given.images} images of 32x32, w8a8\n")
    print_table(["network", "float forward", *_METHODS, "AIMET tf_enhanced"], [])
    for name in given.models:
        reference = float_seconds(network(name), images, given.rounds)
        ratios = [
            f"{bitladder_seconds(name, images, method, given.rounds) / reference:.1f}"
            for method in _METHODS
        ]
        own = f"{aimet_seconds(name, images) / reference:.1f}"
        print_row([name, f"{reference:.2f} s", *ratios, own])


if __name__ == "__main__":
    main()
