"""Stand-ins for quantizers while roundings and ranges are learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet import input_quantizers, output_quantizers, parameter_quantizers

_LOW, _HIGH = -0.1, 1.1  # of the stretched sigmoid (Nagel 2020, equation 23)


class LearnedRounding(nn.Module):
    """A weight on its grid with ``floor(w / s) + h(v)``, ``h`` between 0 and 1 for every value.

    Args:
        quantizer: the weight's, with a range; its grid is kept.
        weight: its float values.

    Attributes:
        logits: ``v``, of the weight's shape. Nothing is learned of a value beyond the grid's ends.
    """

    def __init__(self, quantizer: Any, weight: Tensor) -> None:
        super().__init__()
        scale, offset = quantizer.get_scale().detach(), quantizer.get_offset().detach()
        position = weight.detach() / scale
        self.scale, self.low = scale, (quantizer.qmin + offset)
        self.high = quantizer.qmax + offset
        self.floor = torch.floor(position)
        share = (position - self.floor).clamp(1e-4, 1 - 1e-4)
        self.logits = nn.Parameter(-torch.log((_HIGH - _LOW) / (share - _LOW) - 1))

    def up(self) -> Tensor:
        """``h(v)``, how far each value is rounded up, 0 to 1."""
        return (torch.sigmoid(self.logits) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def undecided(self, power: float) -> Tensor:
        """The sum of ``1 - |2 h - 1| ** power``, 0 where all are decided (equation 24)."""
        return (1 - (2 * self.up() - 1).abs().pow(power)).sum()

    def forward(self) -> Tensor:
        """The weight with roundings that are not decided yet."""
        return self._at(self.floor + self.up())

    @torch.no_grad()
    def decided(self) -> Tensor:
        """The weight on its grid, each value rounded as learned."""
        return self._at(self.floor + (self.up() >= 0.5))

    def _at(self, integers: Tensor) -> Tensor:
        inside = torch.minimum(torch.maximum(integers, self.low), self.high)
        values: Tensor = inside * self.scale
        return values


class Dropped(nn.Module):
    """Leaves values as they are at random, and quantizes the others (Wei 2022, section 3.3).

    Args:
        quantizer: an activation's.
        share: of the values that are left in float, 0 to 1.
    """

    def __init__(self, quantizer: Any, share: float) -> None:
        super().__init__()
        self.quantizer, self.share = quantizer, share

    def forward(self, values: Tensor) -> Tensor:
        """Quantized at random."""
        quantized = self.quantizer(values)
        return torch.where(torch.rand_like(values) < self.share, values, quantized)

    def is_initialized(self) -> bool:
        """Whether the quantizer has a range."""
        return bool(self.quantizer.is_initialized())


class Part:
    """The weights and ranges of a part of a network that are learned.

    Args:
        network: the whole simulated network.
        called: the modules that run in the part; None and those without quantizers do not count.
        layers: those of them whose weights' rounding is learned, each with a weight quantizer.

    Attributes:
        roundings: of the layers' weights, while ``learning``.
        bounds: ends of activations' ranges with the length of their range; none of a quantizer
            that other parts use too.
    """

    def __init__(self, network: nn.Module, called: Sequence[Any], layers: Sequence[Any]) -> None:
        inside = list(dict.fromkeys(one for one in called if one is not None))
        self._layers = [one for one in dict.fromkeys(layers) if one is not None]
        self._places = [
            (held, key)
            for one in inside
            for held in (input_quantizers(one), output_quantizers(one))
            for key, quantizer in held.items()
            if quantizer is not None and quantizer.is_initialized()
        ]
        own = _owned(network, inside, self._places)
        self._parameters = [one for module in inside for one in module.parameters()]
        self.roundings: list[LearnedRounding] = []
        self.bounds = [
            (bound, float((quantizer.max - quantizer.min).detach().abs().max()))
            for quantizer in own
            for bound in (quantizer.min, quantizer.max)
            if bound.requires_grad
        ]
        learned = [layer.weight for layer in self._layers] + [bound for bound, _ in self.bounds]
        self._before = [(one, one.detach().clone()) for one in learned]

    @contextmanager
    def learning(self, drop: float) -> Iterator[None]:
        """Have roundings and ranges alone be learned, and activations dropped, for a block."""
        wanted = [(one, one.requires_grad) for one in self._parameters]
        moving = {id(bound) for bound, _ in self.bounds}
        with ExitStack() as stack:
            for one, _ in wanted:
                one.requires_grad_(id(one) in moving)
            stack.callback(lambda: [one.requires_grad_(mode) for one, mode in wanted])
            for layer in self._layers:
                held = parameter_quantizers(layer)
                stack.callback(held.__setitem__, "weight", held["weight"])
                stack.callback(layer._parameters.__setitem__, "weight", layer.weight)
                self.roundings.append(LearnedRounding(held["weight"], layer.weight))
                held["weight"] = None
            dropped: dict[int, Dropped] = {}
            for held, key in self._places:
                quantizer = held[key]
                stack.callback(held.__setitem__, key, quantizer)
                held[key] = dropped.setdefault(id(quantizer), Dropped(quantizer, drop))
            yield

    def soften(self) -> None:
        """Have the layers compute with the roundings as they are now, for one step."""
        for layer, rounding in zip(self._layers, self.roundings, strict=True):
            layer._parameters["weight"] = rounding()

    @torch.no_grad()
    def decide(self) -> None:
        """Give the layers the weights that were learned."""
        for layer, rounding in zip(self._layers, self.roundings, strict=True):
            layer.weight.copy_(rounding.decided())

    @torch.no_grad()
    def undo(self) -> None:
        """Give weights and ranges back what they were."""
        for one, value in self._before:
            one.copy_(value)


def _owned(
    network: nn.Module, inside: Sequence[Any], places: Sequence[tuple[dict[str, Any], str]]
) -> list[Any]:
    """Activations' quantizers that stand nowhere outside of some modules, each once."""
    within = {id(one) for one in inside}
    elsewhere = {
        id(quantizer)
        for module in network.modules()
        if id(module) not in within
        for held in (input_quantizers(module), output_quantizers(module))
        for quantizer in held.values()
    }
    found = {id(held[key]): held[key] for held, key in places}
    return [quantizer for key, quantizer in found.items() if key not in elsewhere]
