"""What of a network is built, not loaded: operations, how they are joined, where quantizers are."""

from __future__ import annotations

from torch import Tensor, fx, nn

from bitladder.simulation import SimulatedModel, prepare
from bitladder.simulation.aimet import is_quantizer, quantizers

_ORDER = "the order of the operations and what they read"
Structure = dict[str, str]
"""What something is, by ``operation NAME``, ``quantizer NAME`` or ``tensor NAME``."""


def structure_of(model: nn.Module) -> Structure:
    """What a file of weights, ranges and widths does not hold of a network.

    A network that is not traced yet is looked at as it will be traced.

    Raises:
        ModelError: torch.fx cannot trace it.
    """
    module: fx.GraphModule = model.module if isinstance(model, SimulatedModel) else prepare(model)
    found = {}
    for name, part in module.named_modules():
        if name and not is_quantizer(part):
            found[f"operation {name}"] = f"{type(part).__name__}({part.extra_repr()})"
    for info, quantizer in quantizers(module):
        grid = "symmetric" if info.symmetric else "asymmetric"
        found[f"quantizer {info.name}"] = f"{grid} with ranges {tuple(quantizer.shape)}"
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            found[f"tensor {name}"] = str(tuple(value.shape))
    return {**found, _ORDER: module.code}


def difference(before: Structure, after: Structure) -> str | None:
    """The first operation, quantizer or tensor that is not what it was, or None."""
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old == new or name == _ORDER:
            continue
        if old is None or new is None:
            return f"{name} is {'gone' if new is None else 'new'}"
        return f"{name} was {old} and is {new}"
    return None if before[_ORDER] == after[_ORDER] else f"{_ORDER} changed"
