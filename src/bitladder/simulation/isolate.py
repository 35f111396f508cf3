"""Quantize a part of a simulated network alone, to see what that part costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_PLACES = ("param_quantizers", "input_quantizers", "output_quantizers")


@contextmanager
def only(module: nn.Module, kept: Collection[nn.Module]) -> Iterator[None]:
    """Take every quantizer off but those in ``kept`` (none, where it is empty).

    Args:
        module: the simulated module; quantizers that several places share come off in all.
        kept: quantizers that stay.
    """
    stay = {id(quantizer) for quantizer in kept}
    taken: list[tuple[Any, Any, nn.Module]] = []
    for layer in module.modules():
        for place in _PLACES:
            holder: Any = getattr(layer, place, None)
            if holder is None:
                continue
            keys = list(holder.keys()) if isinstance(holder, nn.ModuleDict) else range(len(holder))
            for key in keys:
                quantizer = holder[key]
                if quantizer is not None and id(quantizer) not in stay:
                    taken.append((holder, key, quantizer))
                    holder[key] = None
    try:
        yield
    finally:
        for holder, key, quantizer in taken:
            holder[key] = quantizer
