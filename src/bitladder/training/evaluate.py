"""Measure a network by its task; used after every technique."""

from __future__ import annotations

import torch
from torch import nn

from bitladder.data import Batches
from bitladder.measurement import Measurement
from bitladder.protocols import weights_held
from bitladder.structures import as_inputs, channels_last, moved, named
from bitladder.tasks import Task


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches, task: Task) -> Measurement:
    """Measure ``model`` on every batch, in evaluation mode.

    The modes of its modules are left as they were. A network with a context ``weights_held``, in
    which none of its weights changes, is evaluated in it.

    Args:
        model: the network.
        batches: images with their targets.
        task: what its outputs mean.

    Raises:
        DataError: there are no images, targets do not fit, or outputs are not finite.
    """
    device = next((held.device for held in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    meter = task.meter()
    with weights_held(model):
        for inputs, target in batches:
            given = channels_last(moved(as_inputs(inputs), device))
            outputs = named(model(*given))
            meter.update({name: one.cpu() for name, one in outputs.items()}, target)
    for module, mode in modes:
        module.training = mode
    return meter.measurement()
