"""Begin simulation: place quantizers at the cell's precision and set their ranges."""

from __future__ import annotations

import torch
from torch import nn

from bitladder.errors import QuantizationError
from bitladder.options import Calibrate
from bitladder.simulation import SimulatedModel, prepare
from bitladder.techniques.registry import Context, register, register_rebuild

_BATCH = 250  # images a forward; results do not depend on it but for rounding


@register_rebuild(Calibrate)
def simulate(options: Calibrate, model: nn.Module, context: Context) -> SimulatedModel:
    """Build the simulated network, its ranges not set yet."""
    return SimulatedModel(
        prepare(model),
        context.precision,
        shape=context.shape,
        config=options.config,
        method=options.method,
        percentile=options.percentile,
    )


@register(Calibrate)
def calibrate(options: Calibrate, model: nn.Module, context: Context) -> SimulatedModel:
    """Build the simulated network and set its ranges from the calibration images.

    Raises:
        QuantizationError: there are no calibration images, or the network cannot be simulated.
    """
    images = context.calibration[: options.images]
    if not len(images):
        raise QuantizationError("calibrate: there are no calibration images; give at least one")
    simulated = simulate(options, model, context)

    def run(module: nn.Module) -> None:
        device = next(module.parameters()).device
        for batch in torch.split(images, _BATCH):
            module(batch.to(device))

    simulated.calibrate(run)
    context.notes.append(f"ranges by {options.method} from {len(images)} images")
    return simulated
