"""Widen the fewest layers that bring the outputs back to the float network's, on a target.

Layers are ordered by the noise that each alone makes in the outputs, as in ``mixed_precision``.
Widths are chosen in simulation; the target has the last word, and more layers are widened until
what it computes is within the limit, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.errors import QuantizationError
from bitladder.options import Repair
from bitladder.simulation import SimulatedModel
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.quality import outputs, relative_noise, total_sqnr
from bitladder.structures import Inputs, Outputs
from bitladder.techniques.registry import Context, calibration_inputs, register


@dataclass(frozen=True)
class _Grid:
    """A quantizer's width and range."""

    bits: int
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class _Unit:
    """What is widened at once: the quantizers of one layer, its weight's and its activations'."""

    name: str
    quantizers: tuple[Any, ...]
    narrow: tuple[_Grid, ...]
    wide: tuple[_Grid, ...]

    def set(self, *, wide: bool) -> None:
        """Give its quantizers their wide or their narrow grids."""
        for quantizer, grid in zip(
            self.quantizers, self.wide if wide else self.narrow, strict=True
        ):
            quantizer.bitwidth = grid.bits
            quantizer.set_range(grid.low, grid.high)


@register(Repair)
@torch.no_grad()
def repair(options: Repair, model: nn.Module, context: Context) -> SimulatedModel:
    """Widen layers of a calibrated simulated network, in place.

    The notes say which, and what the network and the target reached.

    Raises:
        QuantizationError: there are no calibration images; the limit is one of the agreement and
            no task tells it; nobody can run the target here; or not even all layers at the larger
            width reach the limit.
        TargetError: the target refuses the network.
    """
    assert isinstance(model, SimulatedModel)
    model.eval()
    search = _Search(options, model, calibration_inputs(options, context), context)
    chosen = search.fewest() if options.layers is None else search.order[: options.layers]
    search.widen(chosen)
    if options.target is not None:
        chosen = search.until_the_target_is_within(chosen)
    names = ", ".join(unit.name for unit in chosen) or "none"
    context.notes.append(f"at {options.bits} bits: {names} ({len(chosen)} of {len(search.order)})")
    context.notes.append(f"{search.described(search.simulated())} in simulation")
    if options.target is not None:
        context.notes.append(f"{search.described(search.on_target())} on {options.target}")
    return model


class _Search:
    """The layers in the order of what they cost, and what the network is with some widened."""

    def __init__(
        self, options: Repair, model: SimulatedModel, inputs: Inputs, context: Context
    ) -> None:
        self.options, self.model, self.inputs = options, model, inputs
        self.task, self.run = context.task, context.target_outputs
        if options.target is not None and self.run is None:
            raise QuantizationError(
                "repair: no target can be run here; set target: null to measure in simulation"
            )
        self.reference = outputs(context.reference, inputs)
        if options.min_agreement is not None and self._agreement(self.reference) is None:
            raise QuantizationError(
                "repair: min_agreement needs a task that tells which answers agree; give min_sqnr"
            )
        units = _units(model, options.bits, inputs, context)
        noise = {unit.name: self._noise(unit) for unit in units}
        self.order = sorted(units, key=lambda unit: -noise[unit.name])

    def fewest(self) -> list[_Unit]:
        """The costliest layers that have to be widened, less those that turn out not to.

        Raises:
            QuantizationError: all of them are too few.
        """
        low, high = 0, len(self.order)
        if not self._is_enough(self.order[:high]):
            reached = self.described(self.simulated())
            raise QuantizationError(
                f"repair: with every layer at {self.options.bits} bits {reached}, which is below "
                f"{self._limit()}; take more bits, a lower limit or a recipe that trains"
            )
        while low < high:
            middle = (low + high) // 2
            if self._is_enough(self.order[:middle]):
                high = middle
            else:
                low = middle + 1
        chosen = self.order[:high]
        for unit in reversed(chosen):
            without = [one for one in chosen if one is not unit]
            if self._is_enough(without):
                chosen = without
        return chosen

    def until_the_target_is_within(self, chosen: Sequence[_Unit]) -> list[_Unit]:
        """Widen the next layers of the order until the target's outputs are within the limit.

        Raises:
            QuantizationError: all of them are too few.
        """
        chosen = list(chosen)
        waiting = [unit for unit in self.order if unit not in chosen]
        while self.options.layers is None and not self._within(self.on_target()):
            if not waiting:
                raise QuantizationError(
                    f"repair: with every layer at {self.options.bits} bits "
                    f"{self.described(self.on_target())} on {self.options.target}, which is below "
                    f"{self._limit()}"
                )
            chosen.append(waiting.pop(0))
            self.widen(chosen)
        return chosen

    def widen(self, chosen: Sequence[_Unit]) -> None:
        """Give some layers the larger width, and all others their own."""
        for unit in self.order:
            unit.set(wide=unit in chosen)

    def simulated(self) -> Outputs:
        """The outputs in simulation."""
        return outputs(self.model, self.inputs)

    def on_target(self) -> Outputs:
        """The outputs of the file that would be written now, on the target."""
        assert self.run is not None
        assert self.options.target is not None
        return self.run(self.model, self.inputs, self.options.target)

    def described(self, made: Outputs) -> str:
        """How near outputs are to the float network's, in words."""
        agreement = self._agreement(made)
        share = "" if agreement is None else f"{100 * agreement:.1f} % agree, "
        return f"{share}{total_sqnr(self.reference, made):.1f} dB"

    def _is_enough(self, chosen: Sequence[_Unit]) -> bool:
        self.widen(chosen)
        return self._within(self.simulated())

    def _within(self, made: Outputs) -> bool:
        if self.options.min_sqnr is not None:
            return total_sqnr(self.reference, made) >= self.options.min_sqnr
        reached = self._agreement(made)
        assert reached is not None
        return reached >= (self.options.min_agreement or 0.0)

    def _limit(self) -> str:
        if self.options.min_sqnr is not None:
            return f"min_sqnr {self.options.min_sqnr:g}"
        return f"min_agreement {self.options.min_agreement:g}"

    def _agreement(self, made: Outputs) -> float | None:
        shares = None if self.task is None else self.task.agreement(made, self.reference)
        return None if shares is None else float(shares.double().mean())

    def _noise(self, unit: _Unit) -> float:
        """Noise in the outputs over their signal, the layer alone at its narrow width."""
        with only_quantizers(self.model.module, unit.quantizers):
            return relative_noise(self.reference, outputs(self.model, self.inputs))


def _units(model: SimulatedModel, bits: int, inputs: Inputs, context: Context) -> list[_Unit]:
    """The layers that have grids narrower than ``bits``; a shared grid is of its first layer.

    The ranges of the wide grids are found as ``calibrate`` does: a range that suits 4 bits clips
    more than 16 need to.
    """
    found: dict[str, list[Any]] = {}
    seen = set()
    for info, quantizer in model.quantizers():
        known: Any = quantizer
        if id(known) in seen or not known.is_initialized() or info.fixed or info.bits >= bits:
            continue
        seen.add(id(known))
        found.setdefault(info.layer, []).append(known)
    every = [quantizer for grids in found.values() for quantizer in grids]
    narrow = {id(quantizer): _grid(quantizer) for quantizer in every}
    for quantizer in every:
        quantizer.bitwidth = bits
    model.calibrate(inputs, context.task)
    wide = {id(quantizer): _grid(quantizer) for quantizer in every}
    units = [
        _Unit(
            name,
            tuple(grids),
            tuple(narrow[id(grid)] for grid in grids),
            tuple(wide[id(grid)] for grid in grids),
        )
        for name, grids in found.items()
    ]
    for unit in units:
        unit.set(wide=False)
    return units


def _grid(quantizer: Any) -> _Grid:
    low, high = quantizer.get_min(), quantizer.get_max()
    return _Grid(quantizer.bitwidth, low.detach().clone(), high.detach().clone())
