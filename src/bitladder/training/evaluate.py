"""Measure a network's top-1 accuracy; used after every technique."""

from __future__ import annotations

import torch
from torch import nn

from bitladder.accuracy import Accuracy
from bitladder.data import Batches
from bitladder.protocols import weights_held
from bitladder.tasks.classes import right


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> Accuracy:
    """Count the images that ``model`` classifies right, in evaluation mode.

    The modes of its modules are left as they were. A network with a context ``weights_held``, in
    which none of its weights changes, is evaluated in it.
    """
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    correct = total = 0
    with weights_held(model):
        for images, labels in batches:
            images = images.to(device, memory_format=torch.channels_last)
            correct += right(model(images).cpu(), labels.cpu())
            total += len(labels)
    for module, mode in modes:
        module.training = mode
    return Accuracy(correct, total)
