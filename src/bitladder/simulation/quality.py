"""How near one network's outputs are to another's: signal to noise and agreement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitladder.protocols import weights_held
from bitladder.tasks.classes import choose


def sqnr(reference: Tensor, quantized: Tensor) -> float:
    """Signal-to-quantization-noise ratio in dB, ``10 log10(sum x^2 / sum (x - x~)^2)``.

    Args:
        reference: float values of any shape.
        quantized: what became of them, of the same shape.

    Returns:
        Infinity where nothing changed.
    """
    signal = float(reference.double().square().sum())
    return decibels(signal, float((reference.double() - quantized.double()).square().sum()))


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two sums of squares."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def agreement(reference: Tensor, quantized: Tensor) -> float:
    """Share of images (0 to 1) that two networks' logits (N, classes) put in the same class."""
    same: Tensor = choose(reference) == choose(quantized)
    return float(same.double().mean())


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a network is; one without parameters and buffers is on the CPU."""
    for held in (*model.parameters(), *model.buffers()):
        return held.device
    return torch.device("cpu")


@torch.no_grad()
def outputs(model: torch.nn.Module, images: Tensor, batch_size: int = 250) -> Tensor:
    """A network's logits (N, classes) for images (N, C, H, W), on the CPU."""
    device = device_of(model)
    batches = torch.split(images, batch_size)
    with weights_held(model):
        return torch.cat([model(batch.to(device)).cpu() for batch in batches])
