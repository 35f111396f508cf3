"""Replace ReLU6 by ReLU: cross-layer scaling needs activations that scale (Nagel 2019, 5.1.1)."""

from __future__ import annotations

from torch import fx, nn

from bitladder.options import Relu6ToRelu
from bitladder.simulation import prepare
from bitladder.techniques.registry import Context, register, register_rebuild


def relu6_to_relu(model: nn.Module) -> tuple[fx.GraphModule, int]:
    """Replace every ``ReLU6`` and ``Hardtanh(0, 6)``, modules and functions alike.

    Args:
        model: any network that torch.fx can trace; it is not changed.

    Returns:
        The changed network in evaluation mode and the number of activations replaced. Outputs
        differ from before wherever an activation was above 6.
    """
    graph_module = prepare(model)
    found = [name for name, module in graph_module.named_modules() if _clips_at_six(module)]
    for name in found:
        parent, _, child = name.rpartition(".")
        setattr(graph_module.get_submodule(parent), child, nn.ReLU())
    return graph_module, len(found)


@register_rebuild(Relu6ToRelu)
@register(Relu6ToRelu)
def _apply(options: Relu6ToRelu, model: nn.Module, context: Context) -> nn.Module:
    model, replaced = relu6_to_relu(prepare(model, context.calibration))
    context.notes.append(f"{replaced} ReLU6 replaced")
    return model


def _clips_at_six(module: nn.Module) -> bool:
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return module.min_val == 0.0 and module.max_val == 6.0
    return False
