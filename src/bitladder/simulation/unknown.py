"""Quantized classes for modules that AIMET has none for, so that every operator can have grids."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bitladder.simulation.aimet import aimet


def register_unknown(model: nn.Module) -> None:
    """Give AIMET a class for every operator of a traced network that it does not know.

    Args:
        model: a prepared network, whose submodules without children are its operators.
    """
    mixin = aimet("nn.true_quant").QuantizationMixin
    for module in model.modules():
        kind = type(module)
        if module is model or any(module.children()) or kind is nn.Module:
            continue
        if kind not in mixin.cls_to_qcls and not issubclass(kind, mixin):
            mixin.implements(kind)(_quantized(kind, mixin))


def _quantized(kind: type[nn.Module], mixin: Any) -> type[Any]:
    """A module between the quantizers of its inputs and its output; parameters stay float."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [
            quantizer(value) if quantizer is not None and isinstance(value, Tensor) else value
            for quantizer, value in zip(_places(self, len(args)), args, strict=True)
        ]
        made = kind.forward(self, *given, **kwargs)
        quantizer = self.output_quantizers[0]
        return quantizer(made) if quantizer is not None and isinstance(made, Tensor) else made

    made: type[Any] = type(mixin)(f"Quantized{kind.__name__}", (mixin, kind), {"forward": forward})
    return made


def _places(module: Any, count: int) -> list[Any]:
    found = list(module.input_quantizers)[:count]
    return found + [None] * (count - len(found))
