"""Quantized classes for modules that AIMET has none for, so that every operator can have grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from bitladder.simulation.aimet import (
    add_quantized_class,
    has_quantized_class,
    input_quantizers,
    output_quantizer,
)


def register_unknown(model: nn.Module) -> None:
    """Give AIMET a class for every operator of a traced network that it does not know.

    Args:
        model: a prepared network, whose submodules without children are its operators.
    """
    for module in model.modules():
        kind = type(module)
        if module is model or any(module.children()) or kind is nn.Module:
            continue
        if not has_quantized_class(kind):
            add_quantized_class(kind, _between_quantizers(kind))


def _between_quantizers(kind: type[nn.Module]) -> Callable[..., Any]:
    """A forward between the quantizers of inputs and output; parameters stay float."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [
            quantizer(value) if quantizer is not None and isinstance(value, Tensor) else value
            for quantizer, value in zip(_places(self, len(args)), args, strict=True)
        ]
        made = kind.forward(self, *given, **kwargs)
        quantizer = output_quantizer(self)
        return quantizer(made) if quantizer is not None and isinstance(made, Tensor) else made

    return forward


def _places(module: Any, count: int) -> list[Any]:
    found = list(input_quantizers(module).values())[:count]
    return found + [None] * (count - len(found))
