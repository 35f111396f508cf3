"""Quantize a part of a simulated network alone, to see what that part costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from bitladder.simulation.aimet import quantizer_places


@contextmanager
def only_quantizers(module: nn.Module, kept: Collection[nn.Module]) -> Iterator[None]:
    """Take every quantizer off but those in ``kept`` (none, where it is empty).

    Args:
        module: the simulated module; quantizers that several places share come off in all.
        kept: quantizers that stay.
    """
    stay = {id(quantizer) for quantizer in kept}
    taken: list[tuple[dict[str, Any], str, nn.Module]] = []
    for layer in module.modules():
        for holder in quantizer_places(layer):
            for key, quantizer in holder.items():
                if quantizer is not None and id(quantizer) not in stay:
                    taken.append((holder, key, quantizer))
                    holder[key] = None
    try:
        yield
    finally:
        for holder, key, quantizer in taken:
            holder[key] = quantizer
