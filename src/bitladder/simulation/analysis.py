"""Where a simulated network loses: each quantizer's range and noise, and what it costs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.accuracy import Accuracy
from bitladder.simulation.aimet import QuantizerInfo, QuantizerKind
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.quality import agreement, decibels, device_of, outputs, sqnr
from bitladder.simulation.simulated import SimulatedModel
from bitladder.tasks.classes import right


@dataclass(frozen=True)
class QuantizerRange:
    """One quantizer of a network, with its range and its noise.

    Attributes:
        name: of the operation in the traced network.
        kind: ``weight``, or the operation's ``input`` or ``output``.
        bits: width of its integers.
        lowest: smallest value of its grid, one number a range.
        highest: largest value of its grid, one number a range.
        sqnr: signal-to-noise ratio in dB of what passed it, or None where nothing did.
    """

    name: str
    kind: QuantizerKind
    bits: int
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    sqnr: float | None


@dataclass(frozen=True)
class Sensitivity:
    """What a network loses when one of its quantizers alone is on.

    Attributes:
        name: of the operation in the traced network.
        kind: ``weight``, or the operation's ``input`` or ``output``.
        bits: width of its integers.
        sqnr: of the logits against the float network's, in dB.
        agreement: share of images whose class stays, 0 to 1.
        accuracy: with the labels, or None without.
    """

    name: str
    kind: QuantizerKind
    bits: int
    sqnr: float
    agreement: float
    accuracy: Accuracy | None


@dataclass(frozen=True)
class Activation:
    """What one quantizer handed on.

    Attributes:
        quantizer: its name in the simulated network.
        scale: step of its grid.
        values: on that grid, of the operation's own shape.
    """

    quantizer: str
    scale: float
    values: Tensor


@torch.no_grad()
def activations(simulated: SimulatedModel, images: Tensor) -> list[Activation]:
    """What every activation quantizer makes of images (N, C, H, W), in the order they run.

    Args:
        simulated: a calibrated network; one range a quantizer.
        images: (N, C, H, W), run as one batch.
    """
    found: list[Activation] = []
    names = {id(quantizer): info.name for info, quantizer in simulated.quantizers()}

    def seen(quantizer: Any, given: Any, result: Tensor) -> None:
        values = result.as_subclass(Tensor).cpu()
        found.append(Activation(names[id(quantizer)], float(quantizer.get_scale()), values))

    with _hooked(simulated, seen):
        simulated(images.to(device_of(simulated)))
    return found


@torch.no_grad()
def layers(simulated: SimulatedModel, images: Tensor | None = None) -> list[QuantizerRange]:
    """Every quantizer with its range and noise, in module order.

    Args:
        simulated: a calibrated network; its modes are left as they are.
        images: (N, C, H, W) that activations' noise is measured on; without, it is None.
    """
    noise = _Noise(simulated)
    if images is not None:
        noise.measure(images)
    found = []
    for info, quantizer in _distinct(simulated):
        if info.parameter is not None:
            weight = simulated.module.get_submodule(info.layer).get_parameter(info.parameter)
            measured: float | None = sqnr(weight, quantizer(weight))
        else:
            measured = noise.sqnr(quantizer)
        lowest, highest = (
            tuple(bound.flatten().tolist()) for bound in (quantizer.get_min(), quantizer.get_max())
        )
        found.append(QuantizerRange(info.layer, info.kind, info.bits, lowest, highest, measured))
    return found


def sensitivity(
    simulated: SimulatedModel, images: Tensor, labels: Tensor | None = None
) -> list[Sensitivity]:
    """What each quantizer costs when it alone is on, the costliest first.

    The network with every quantizer off is the float one it is compared with.

    Args:
        simulated: a calibrated network.
        images: (N, C, H, W).
        labels: (N,), for accuracies.
    """
    modes = [(module, module.training) for module in simulated.modules()]
    simulated.eval()
    with only_quantizers(simulated.module, []):
        reference = outputs(simulated.module, images)
    found = []
    for info, quantizer in _distinct(simulated):
        with only_quantizers(simulated.module, [quantizer]):
            logits = outputs(simulated.module, images)
        accuracy = None
        if labels is not None:
            accuracy = Accuracy(right(logits, labels.cpu()), len(labels))
        quality = sqnr(reference, logits), agreement(reference, logits)
        found.append(Sensitivity(info.layer, info.kind, info.bits, *quality, accuracy))
    for module, mode in modes:
        module.training = mode
    return sorted(found, key=lambda row: row.sqnr)


def _distinct(simulated: SimulatedModel) -> Iterator[tuple[QuantizerInfo, Any]]:
    """Quantizers that have a range, shared ones once, with the operation they stand at."""
    seen = set()
    for info, quantizer in simulated.quantizers():
        if id(quantizer) in seen or not quantizer.is_initialized():  # type: ignore[operator]
            continue
        seen.add(id(quantizer))
        yield info, quantizer


@contextmanager
def _hooked(simulated: SimulatedModel, hook: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Call ``hook`` after each activation quantizer with it, its inputs and its output."""
    handles = [
        quantizer.register_forward_hook(hook)
        for info, quantizer in _distinct(simulated)
        if info.kind != "weight"
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Noise:
    """Signal and noise of every activation quantizer, summed over batches."""

    def __init__(self, simulated: SimulatedModel) -> None:
        self.simulated = simulated
        self.sums: dict[int, tuple[float, float]] = {}

    def measure(self, images: Tensor) -> None:
        with _hooked(self.simulated, self._seen):
            outputs(self.simulated, images)

    def sqnr(self, quantizer: nn.Module) -> float | None:
        if id(quantizer) not in self.sums:
            return None
        return decibels(*self.sums[id(quantizer)])

    def _seen(self, quantizer: nn.Module, given: Any, result: Tensor) -> None:
        values = given[0].detach().as_subclass(Tensor).double()
        error = values - result.detach().as_subclass(Tensor).double()
        signal, noise = self.sums.get(id(quantizer), (0.0, 0.0))
        sums = float(values.square().sum()), float(error.square().sum())
        self.sums[id(quantizer)] = signal + sums[0], noise + sums[1]
