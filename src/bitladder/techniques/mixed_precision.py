"""Give each layer's weights their own width, under a budget or above a floor.

A layer's sensitivity at a width is the noise in the outputs, each relative to its own signal, when
its weights alone are quantized to it. Noises of different layers add up nearly, so the best widths
for a budget solve a multiple choice knapsack: minimize the summed noise subject to the summed cost
(Yao et al. 2021, HAWQ-V3, arXiv 2011.10680, equation 5, with measured noise in place of the
Hessian's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from bitladder.errors import QuantizationError
from bitladder.options import MixedPrecision
from bitladder.simulation import SimulatedModel, WeightedLayer
from bitladder.simulation.aimet import weight_quantizer
from bitladder.simulation.isolate import only_quantizers
from bitladder.simulation.quality import outputs, relative_noise, total_sqnr
from bitladder.structures import Inputs, Outputs, first
from bitladder.techniques.registry import Context, calibration_inputs, register

_POINTS = 7  # budgets visited between the smallest and the largest network
_HALVINGS = 6  # of the budget, in search of the smallest network above the floor


@dataclass(frozen=True)
class Point:
    """One assignment that was measured.

    Attributes:
        mean_bits: of a weight.
        cost: in the unit of the budget.
        sqnr: of the outputs against the float network's, in dB.
        agreement: mean share in which the task's answers stay, 0 to 1, or None where it cannot say.
    """

    mean_bits: float
    cost: float
    sqnr: float
    agreement: float | None

    def __str__(self) -> str:
        agree = "" if self.agreement is None else f"{100 * self.agreement:.1f} % agree, "
        return f"{self.mean_bits:.2f} bits: {agree}{self.sqnr:.1f} dB"


@register(MixedPrecision)
@torch.no_grad()
def mixed_precision(options: MixedPrecision, model: nn.Module, context: Context) -> SimulatedModel:
    """Assign widths to the weights of a calibrated simulated network, in place.

    Activations keep their widths. What was visited on the way is in the notes.

    Raises:
        QuantizationError: there are no calibration images, no assignment meets the goal, or the
            goal is a floor of the agreement and there is no task that tells it.
    """
    assert isinstance(model, SimulatedModel)
    inputs = calibration_inputs(options, context)
    model.eval()
    search = _Search(options, model, inputs, context)
    budget = options.mean_bits or options.megabytes or options.gigabops
    if budget is not None:
        for share in np.linspace(0, 1, _POINTS):
            search.visit(
                search.costs.min(1).sum() * (1 - share) + search.costs.max(1).sum() * share
            )
        chosen = search.visit(budget)
    else:
        assert options.min_agreement is not None
        chosen = search.above(options.min_agreement)
    context.notes.extend(f"Pareto: {point}" for point in search.pareto())
    context.notes.append(f"chosen: {search.measure(chosen)}")
    context.notes.append(", ".join(f"{name} {bits}" for name, bits in search.named(chosen).items()))
    return model


class _Search:
    """Sensitivities and costs of the layers, and the assignments measured so far."""

    def __init__(
        self, options: MixedPrecision, model: SimulatedModel, inputs: Inputs, context: Context
    ) -> None:
        self.model, self.inputs, self.task = model, inputs, context.task
        self.bits = sorted(set(options.bits))
        self.layers = {
            name: layer
            for name, layer in model.module.named_modules()
            if isinstance(layer, WeightedLayer) and weight_quantizer(layer) is not None
        }
        self.reference = outputs(context.reference, inputs)
        if options.min_agreement is not None and self._agreement(self.reference) is None:
            raise QuantizationError(
                "mixed_precision: min_agreement needs a task that tells which answers agree; give "
                "a budget: mean_bits, megabytes or gigabops"
            )
        self.noise = self._noises()
        sizes = [layer.weight.numel() for layer in self.layers.values()]
        self.sizes: NDArray[np.float64] = np.array(sizes, np.float64)
        self.costs: NDArray[np.float64] = np.outer(_unit_costs(options, self), self.bits)
        self.points: dict[tuple[int, ...], Point] = {}

    def visit(self, budget: float) -> tuple[int, ...]:
        """The best assignment within a budget, measured.

        Raises:
            QuantizationError: the smallest network is above the budget.
        """
        smallest = float(self.costs.min(1).sum())
        if budget < smallest * (1 - 1e-9):
            raise QuantizationError(
                f"mixed_precision: at {self.bits[0]} bits everywhere the network costs "
                f"{smallest:.4g}, more than the budget {budget:.4g}; allow fewer bits or raise it"
            )
        assignment = assign(self.noise, self.costs, budget)
        self.measure(assignment)
        return assignment

    def above(self, floor: float) -> tuple[int, ...]:
        """The smallest assignment found whose agreement is not below the floor.

        Raises:
            QuantizationError: not even the widest weights reach it.
        """
        low, high = float(self.costs.min(1).sum()), float(self.costs.max(1).sum())
        best = self.visit(high)
        reached = self.measure(best).agreement
        assert reached is not None
        if reached < floor:
            raise QuantizationError(
                f"mixed_precision: with {self.bits[-1]} bits everywhere {reached:.4f} of the "
                f"answers stay, fewer than min_agreement {floor:g}"
            )
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            assignment = self.visit(middle)
            if (self.measure(assignment).agreement or 0.0) >= floor:
                best, high = assignment, middle
            else:
                low = middle
        return best

    def measure(self, assignment: tuple[int, ...]) -> Point:
        """Set the widths and measure the whole network, activations quantized too."""
        for layer, choice in zip(self.layers.values(), assignment, strict=True):
            _set_width(layer, self.bits[choice])
        if assignment not in self.points:
            made = outputs(self.model, self.inputs)
            widths = np.array([self.bits[choice] for choice in assignment])
            self.points[assignment] = Point(
                mean_bits=float((widths * self.sizes).sum() / self.sizes.sum()),
                cost=float(self.costs[np.arange(len(assignment)), assignment].sum()),
                sqnr=total_sqnr(self.reference, made),
                agreement=self._agreement(made),
            )
        return self.points[assignment]

    def pareto(self) -> list[Point]:
        """Points that no other one beats in cost and SQNR, cheapest first."""
        front: list[Point] = []
        for point in sorted(self.points.values(), key=lambda point: (point.cost, -point.sqnr)):
            if not front or point.sqnr > front[-1].sqnr:
                front.append(point)
        return front

    def named(self, assignment: Sequence[int]) -> Mapping[str, int]:
        """Widths by layer."""
        chosen = (self.bits[choice] for choice in assignment)
        return dict(zip(self.layers, chosen, strict=True))

    def _agreement(self, made: Outputs) -> float | None:
        shares = None if self.task is None else self.task.agreement(made, self.reference)
        return None if shares is None else float(shares.double().mean())

    def _noises(self) -> NDArray[np.float64]:
        """Noise in the outputs over their signal, (layers, widths), each layer alone."""
        noises = np.zeros((len(self.layers), len(self.bits)))
        for row, layer in enumerate(self.layers.values()):
            quantizer = weight_quantizer(layer)
            before = quantizer.bitwidth
            for column, bits in enumerate(self.bits):
                _set_width(layer, bits)
                with only_quantizers(self.model.module, [quantizer]):
                    made = outputs(self.model, self.inputs)
                noises[row, column] = relative_noise(self.reference, made)
            _set_width(layer, before)
        return noises


def assign(
    noise: NDArray[np.float64], costs: NDArray[np.float64], budget: float
) -> tuple[int, ...]:
    """For each layer the width that makes the summed noise least within the budget.

    Args:
        noise: of each layer at each width, (layers, widths).
        costs: of each layer at each width, (layers, widths).
        budget: largest summed cost; at least that of the cheapest widths.
    """
    layers, widths = noise.shape
    one_each = np.kron(np.eye(layers), np.ones(widths))
    found = optimize.milp(
        noise.ravel(),
        integrality=np.ones(noise.size),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(one_each, 1, 1),
            optimize.LinearConstraint(costs.ravel()[None], ub=budget * (1 + 1e-9)),
        ],
    )
    assert found.x is not None, found.message
    return tuple(int(choice) for choice in found.x.reshape(layers, widths).argmax(1))


def _unit_costs(options: MixedPrecision, search: _Search) -> NDArray[np.float64]:
    """What one bit of each layer's weights costs, in the unit of the budget."""
    sizes = search.sizes
    if options.gigabops is not None:
        return _multiply_adds(search) * (search.model.precision.activations / 1e9)
    return sizes / 8e6 if options.megabytes is not None else sizes / sizes.sum()


def _multiply_adds(search: _Search) -> NDArray[np.float64]:
    """Multiply-adds of each layer for one image or signal."""
    counts: dict[str, float] = {}
    handles = []
    for name, layer in search.layers.items():

        def count(module: nn.Module, given: Any, output: Tensor, name: str = name) -> None:
            assert isinstance(module, WeightedLayer)
            spread = given[0] if isinstance(module, _ConvTransposeNd) else output
            positions = spread.numel() / module.weight.shape[0]
            counts[name] = counts.get(name, 0.0) + module.weight.numel() * positions

        handles.append(layer.register_forward_hook(count))
    outputs(search.model, first(search.inputs, 1))
    for handle in handles:
        handle.remove()
    return np.array([counts.get(name, 0.0) for name in search.layers])


def _set_width(layer: WeightedLayer, bits: int) -> None:
    """Give a weight's quantizer a width, and the range that suits it."""
    quantizer = weight_quantizer(layer)
    if quantizer.bitwidth != bits:
        quantizer.bitwidth = bits
        with quantizer.compute_encodings():
            quantizer(layer.weight)
