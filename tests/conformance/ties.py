"""How far a simulation's outputs can lie apart where only its roundings fall otherwise.

Two float32 sums of the same numbers differ by their roundings. Where a sum is as near as that to
the middle between two integers, both integers are right, and all that is computed from it follows.
So the simulation is run again and again with each value moved by what float32 can be off before it
is rounded, and an output can differ where it moved, and nowhere else. A target that rounds
elsewhere than the simulation is some steps off; then every value moves by steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bitladder.simulation.aimet import input_quantizers, is_quantized, output_quantizers

_ROUNDOFF = 2.0**-24
_DEVIATIONS = 4  # of the sum of n independent roundings: sqrt(n) u (Higham and Mary 2019, eq. 2.6)
_ROUNDINGS = 8  # of an operation that is no sum: what its steps and float functions come to
_RUNS, _MOST_RUNS = 48, 768
Values = NDArray[np.float32]
_Move = Callable[[Tensor, Tensor], Tensor]


class Spread:
    """Smallest and largest outputs (N, K) that moved roundings make, of as many runs as needed.

    A difference behind three ties in a row shows in one run of many, so that runs are added until
    they explain it or have become ``_MOST_RUNS``.
    """

    def __init__(self, quantized: Any, images: Tensor, steps: int | None = None) -> None:
        """Move by what float32 can be off, or by some steps of every activation's grid."""
        self._quantized, self._images = quantized, images
        self._moved = _by_roundings if steps is None else functools.partial(_by_steps, steps=steps)
        with torch.no_grad():
            self._low = self._high = quantized(images)
        self._runs = 0
        self._extend(_RUNS)

    @property
    def low(self) -> Values:
        return self._low.numpy()

    @property
    def high(self) -> Values:
        return self._high.numpy()

    def explains(self, found: Values, slack: float) -> bool:
        """Whether the values (N, K) of the first images lie in the spread.

        Runs find most of it, so that it counts once more.
        """
        while not self._within(found, slack):
            if self._runs >= _MOST_RUNS:
                return False
            self._extend(self._runs)
        return True

    def _within(self, found: Values, slack: float) -> bool:
        low, high = self.low[: len(found)], self.high[: len(found)]
        more = (high - low).astype(np.float64) + slack
        return bool(np.all((found >= low - more) & (found <= high + more)))

    def _extend(self, runs: int) -> None:
        with (
            torch.no_grad(),
            torch.random.fork_rng(),
            self._moved(self._quantized.simulated.module),
        ):
            torch.manual_seed(11 + self._runs)
            for _ in range(runs):
                made = self._quantized(self._images)
                self._low = torch.minimum(self._low, made)
                self._high = torch.maximum(self._high, made)
        self._runs += runs


def _sign(like: Tensor) -> Tensor:
    return torch.randint(0, 2, like.shape).to(like) * 2 - 1


@contextmanager
def _by_roundings(module: nn.Module) -> Iterator[None]:
    """Each operation's result is off by as much as float32 can be."""
    handles = []
    for layer in [layer for layer in module.modules() if is_quantized(layer)]:
        bound: list[Any] = [0.0]

        def before(layer: Any, args: Any, bound: list[Any] = bound) -> None:
            bound[0] = _bound(layer, [a for a in args if isinstance(a, Tensor)])

        def after(_: Any, args: Any, made: Any, bound: list[Any] = bound) -> Any:
            return _off(made, bound[0]) if isinstance(made, Tensor) else made

        def into(_: Any, args: Any, bound: list[Any] = bound) -> Any:
            return (_off(args[0], bound[0]), *args[1:])

        def entering(_: Any, args: Any) -> Any:
            return (_off(args[0], _ROUNDINGS * _ROUNDOFF * args[0].abs()), *args[1:])

        rounded = [q for q in output_quantizers(layer).values() if q is not None]
        handles.append(layer.register_forward_pre_hook(before))
        handles += [q.register_forward_pre_hook(into) for q in rounded]
        if not rounded:
            handles.append(layer.register_forward_hook(after))
        handles += [
            q.register_forward_pre_hook(entering)
            for q in input_quantizers(layer).values()
            if q is not None
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _off(made: Tensor, bound: Any) -> Tensor:
    if not made.is_floating_point():
        return made
    if isinstance(bound, float):  # of the largest number that was read
        bound = max(bound, _ROUNDINGS * _ROUNDOFF * float(made.abs().max()))
    if isinstance(bound, Tensor) and bound.shape != made.shape:
        bound = bound.max()
    return made + _sign(made) * bound


def _bound(layer: Any, given: list[Tensor]) -> Any:
    """What float32 can be off in a layer's result: a tensor of its shape, or one number."""
    floats = [x for x in given if x.is_floating_point() and x.numel()]
    if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear) and floats:
        weight = layer.weight.detach().abs()
        bias = None if layer.bias is None else layer.bias.detach().abs()
        terms = weight[0].numel() + 1
        off = _DEVIATIONS * _ROUNDOFF * terms**0.5
        if isinstance(layer, nn.Linear):
            return off * F.linear(floats[0].abs(), weight, bias)
        if not layer.transposed:
            return off * layer._conv_forward(floats[0].abs(), weight, bias)
        return float(off * floats[0].abs().max() * weight.sum() / weight.shape[1])
    return float(_ROUNDINGS * _ROUNDOFF * max((float(x.abs().max()) for x in floats), default=0.0))


@contextmanager
def _by_steps(module: nn.Module, steps: int) -> Iterator[None]:
    """Each activation is up to some steps lower or higher than it was rounded."""

    def moved(quantizer: Any, args: Any, made: Tensor) -> Tensor:
        step = quantizer.get_scale().detach()
        low, high = quantizer.get_min().detach(), quantizer.get_max().detach()
        made = torch.Tensor(made) if type(made) is not Tensor else made
        off = made + step * torch.randint(-steps, steps + 1, made.shape).to(made)
        return torch.minimum(torch.maximum(off, low), high)

    handles = [
        quantizer.register_forward_hook(moved)
        for layer in module.modules()
        if is_quantized(layer)
        for places in (input_quantizers(layer), output_quantizers(layer))
        for quantizer in places.values()
        if quantizer is not None and quantizer.is_initialized()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
