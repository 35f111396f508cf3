"""What rooms may ask of a network beside its outputs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class HoldsWeights(Protocol):
    """A network that computes its weights anew at every forward, if nobody holds them."""

    def weights_held(self) -> AbstractContextManager[None]:
        """A block without gradients, in which the weights are computed once and do not change."""


@runtime_checkable
class Quantized(Protocol):
    """What holds a simulated network, such as a ``QuantizedModel``.

    Attributes:
        simulated: the network.
    """

    simulated: Any


def weights_held(network: object) -> AbstractContextManager[None]:
    """The block of a network that has one, in which none of its weights may change."""
    return network.weights_held() if isinstance(network, HoldsWeights) else nullcontext()
