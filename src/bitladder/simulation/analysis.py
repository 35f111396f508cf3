"""Where a simulated network loses: each quantizer's range and noise, and what it costs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.measurement import Measurement
from bitladder.simulation.aimet import QuantizerInfo, QuantizerKind
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.quality import (
    decibels,
    device_of,
    outputs,
    sqnr,
    sqnr_by_output,
    total_sqnr,
)
from bitladder.simulation.simulated import SimulatedModel
from bitladder.structures import Inputs, as_inputs, moved
from bitladder.tasks.task import Task


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
        sqnr: of the outputs against the float network's, in dB; of several, see ``total_sqnr``.
        agreement: mean share in which the task's answers stay, 0 to 1, or None where it cannot say.
        quality: with the targets, or None without.
        outputs: the SQNR of each output, in dB.
    """

    name: str
    kind: QuantizerKind
    bits: int
    sqnr: float
    agreement: float | None
    quality: Measurement | None
    outputs: Mapping[str, float]


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
def activations(simulated: SimulatedModel, inputs: Tensor | Inputs) -> list[Activation]:
    """What every activation quantizer makes of inputs, in the order they run.

    Args:
        simulated: a calibrated network; one range a quantizer.
        inputs: one tensor an input, run as one batch.
    """
    found: list[Activation] = []
    names = {id(quantizer): info.name for info, quantizer in simulated.quantizers()}

    def seen(quantizer: Any, given: Any, result: Tensor) -> None:
        values = result.as_subclass(Tensor).cpu()
        found.append(Activation(names[id(quantizer)], float(quantizer.get_scale()), values))

    with _hooked(simulated, seen):
        simulated(*moved(inputs, device_of(simulated)))
    return found


@torch.no_grad()
def layers(
    simulated: SimulatedModel, inputs: Tensor | Inputs | None = None
) -> list[QuantizerRange]:
    """Every quantizer with its range and noise, in module order.

    Args:
        simulated: a calibrated network; its modes are left as they are.
        inputs: that activations' noise is measured on; without, it is None.
    """
    noise = _Noise(simulated)
    if inputs is not None:
        noise.measure(as_inputs(inputs))
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
    simulated: SimulatedModel,
    inputs: Tensor | Inputs,
    target: Any | None = None,
    task: Task | None = None,
) -> list[Sensitivity]:
    """What each quantizer costs when it alone is on, the costliest first.

    The network with every quantizer off is the float one it is compared with.

    Args:
        simulated: a calibrated network.
        inputs: one tensor an input.
        target: of the same images, for the task's quality.
        task: what the outputs mean, or None to measure their SQNR alone.
    """
    modes = [(module, module.training) for module in simulated.modules()]
    simulated.eval()
    with only_quantizers(simulated.module, []):
        reference = outputs(simulated, inputs)
    found = []
    for info, quantizer in _distinct(simulated):
        with only_quantizers(simulated.module, [quantizer]):
            made = outputs(simulated, inputs)
        agreement = quality = None
        if task is not None and (shares := task.agreement(made, reference)) is not None:
            agreement = float(shares.double().mean())
        if task is not None and target is not None:
            meter = task.meter()
            meter.update(made, target)
            quality = meter.measurement()
        by_output = sqnr_by_output(reference, made)
        sqnr_of_all = total_sqnr(reference, made)
        row = Sensitivity(
            info.layer, info.kind, info.bits, sqnr_of_all, agreement, quality, by_output
        )
        found.append(row)
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

    def measure(self, inputs: Inputs) -> None:
        with _hooked(self.simulated, self._seen):
            outputs(self.simulated, inputs)

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
