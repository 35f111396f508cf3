"""Measure batch norms' statistics anew after training on quantized values, then fold them.

Oscillating weights leave running statistics behind what the final weights do (Nagel et al. 2022,
arXiv 2203.11086, section 2.3.2); averaging them over batches in which nothing is trained puts that
right. Folding scales a channel's weights and their range alike, so that integers stay as they are.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from bitladder.errors import QuantizationError
from bitladder.options import ReestimateBatchNorm
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.aimet import measure_batch_norms
from bitladder.structures import count, moved, split
from bitladder.techniques.fold_batch_norm import fold_simulated
from bitladder.techniques.registry import (
    Context,
    calibration_inputs,
    register,
    register_rebuild,
)


@register(ReestimateBatchNorm)
def reestimate_batch_norm(
    options: ReestimateBatchNorm, model: nn.Module, context: Context
) -> SimulatedModel:
    """Set the statistics of every batch norm of a simulated network, and fold them, in place.

    Raises:
        QuantizationError: there are no calibration images, or one alone.
    """
    assert isinstance(model, SimulatedModel)
    inputs = calibration_inputs(options, context)
    if count(inputs) == 1:
        raise QuantizationError(
            "reestimate_batch_norm: one calibration image has no variance; give two or more"
        )
    device = device_of(model)
    batches = [moved(batch, device) for batch in split(inputs, options.batch_size)]
    if len(batches) > 1 and count(batches[-1]) < options.batch_size:
        batches.pop()  # every batch counts the same
    model.eval()
    norms = sum(isinstance(module, BatchNorm) for module in model.module.modules())
    measure_batch_norms(model.module, batches)
    folded = fold_simulated(model)
    context.notes.append(f"{norms} batch norms from {count(inputs)} images, {folded} folded")
    return model


@register_rebuild(ReestimateBatchNorm)
def _rebuild(options: ReestimateBatchNorm, model: nn.Module, context: Context) -> nn.Module:
    assert isinstance(model, SimulatedModel)
    fold_simulated(model)
    return model
