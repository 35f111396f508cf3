"""Networks that have no answer once their values are rounded: they divide by what becomes zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from bitladder.operators import function_name, of_node

_POLES = {
    "Divide", "FloorDivide", "Remainder", "Fmod", "RSqrt", "Log", "Pow", "reciprocal", "log2",
    "log10", "log1p", "addcdiv",
}  # fmt: skip
"""Operators without a finite result where what they read is zero."""


def pole(module: fx.GraphModule, images: Tensor) -> str | None:
    """The operator whose result is the first that is not finite, if it has none at zero; or None.

    Args:
        module: a simulated network; without rounding its outputs are finite.
        images: (N, C, H, W).
    """
    finder = _Finder(module)
    with torch.no_grad():
        finder.run(images)
    node = finder.found
    if node is None:
        return None
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    operator = of_node(node, called)
    name = operator.name if operator is not None else function_name(node)
    return name if name in _POLES else None


class _Finder(fx.Interpreter):
    """Runs a network and keeps the first node whose result is not finite."""

    found: fx.Node | None = None

    def run_node(self, node: fx.Node) -> Any:
        made = super().run_node(node)
        floating = isinstance(made, Tensor) and made.is_floating_point()
        if self.found is None and floating and not torch.isfinite(made).all():
            self.found = node
        return made
