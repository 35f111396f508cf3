"""A network's outputs for many inputs, and how near they are to another network's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bitladder import structures
from bitladder.protocols import weights_held
from bitladder.structures import Outputs, moved, named


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


def sqnr_by_output(reference: Outputs, quantized: Outputs) -> dict[str, float]:
    """``sqnr`` of each output, in dB."""
    return {name: sqnr(values, quantized[name]) for name, values in reference.items()}


def total_sqnr(reference: Outputs, quantized: Outputs) -> float:
    """One figure in dB of all outputs: the noise of each, relative to its own signal, averaged."""
    if len(reference) == 1:
        [found] = sqnr_by_output(reference, quantized).values()
        return found
    return decibels(1.0, relative_noise(reference, quantized) / len(reference))


def relative_noise(reference: Outputs, quantized: Outputs) -> float:
    """``sum (x - x~)^2 / sum x^2`` of each output, summed over them."""
    total = 0.0
    for name, values in reference.items():
        signal = float(values.double().square().sum())
        noise = float((quantized[name].double() - values.double()).square().sum())
        total += noise / signal if signal else math.inf if noise else 0.0
    return total


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a network is; one without parameters and buffers is on the CPU."""
    for held in (*model.parameters(), *model.buffers()):
        return held.device
    return torch.device("cpu")


@torch.no_grad()
def outputs(
    model: torch.nn.Module, inputs: Tensor | Sequence[Tensor], batch_size: int = 250
) -> Outputs:
    """A network's outputs for its inputs, by name, on the CPU.

    Args:
        model: the network.
        inputs: its only one, or one tensor an input.
        batch_size: images or signals that run at a time; fewer where they are large.
    """
    device = device_of(model)
    parts: list[Outputs] = []
    sizes = []
    with weights_held(model):
        for batch in structures.split(inputs, structures.fitting(inputs, batch_size)):
            found = named(model(*moved(batch, device)))
            parts.append({name: values.cpu() for name, values in found.items()})
            sizes.append(structures.count(batch))
    return {name: _joined([part[name] for part in parts], sizes) for name in parts[0]}


def _joined(parts: list[Tensor], sizes: list[int]) -> Tensor:
    """An output of all batches; one that does not depend on the batch is there once."""
    if len(parts) == 1:
        return parts[0]
    rows = [len(part) if part.dim() else None for part in parts]
    if rows != sizes and all(torch.equal(part, parts[0]) for part in parts[1:]):
        return parts[0]
    return torch.cat(parts) if None not in rows else torch.stack(parts)
