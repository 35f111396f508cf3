"""Modules made plain before a network is traced, on the copy: weights that are weights, attention
that is linear layers and products (see ``attention``).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from bitladder.simulation.attention import written_out

_HOOKS: dict[str, Any] = {
    "WeightNorm": torch.nn.utils.remove_weight_norm,
    "SpectralNorm": torch.nn.utils.remove_spectral_norm,
}


def copy_of(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, also of a network whose hooks compute weights at every call."""
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            name = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
            if not isinstance(name, str):
                continue
            held = module.__dict__.get(name)
            if isinstance(held, Tensor):  # computed anew before it is used
                module.__dict__[name] = held.detach()
    return copy.deepcopy(model).eval()


def make_plain(model: nn.Module) -> list[str]:
    """Take parametrizations off and open what is one module and many operations, in place.

    Returns:
        What a person should know of it, a line each.
    """
    freed = 0
    for module in model.modules():
        freed += _free_weights(module)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (layer := _frozen_norm(child)) is not None:
                setattr(parent, name, layer)
        if type(parent).__module__.startswith("torch.nn."):
            continue  # its own forward reads the attention's weights
        for name, child in list(parent.named_children()):
            if (opened := written_out(child)) is not None:
                setattr(parent, name, opened)
    if not freed:
        return []
    return [f"{freed} parametrized weights became plain ones, which training does not constrain"]


def _frozen_norm(module: nn.Module) -> nn.Module | None:
    """A batch norm that is constants, such as torchvision's of detectors, as a convolution of 1x1.

    Its weights are one a channel, which lie on grids exactly; as a product and a sum of tensors
    they would take two roundings more. It stays frozen.
    """
    if type(module).__name__ != "FrozenBatchNorm2d":
        return None
    named: Any = module
    with torch.no_grad():
        scale = named.weight * (named.running_var + named.eps).rsqrt()
        shift = named.bias - named.running_mean * scale
    layer = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale))
    layer.weight = nn.Parameter(scale[:, None, None, None].clone(), requires_grad=False)
    layer.bias = nn.Parameter(shift.clone(), requires_grad=False)
    return layer.eval()


def _free_weights(module: nn.Module) -> int:
    """Turn what computes a weight at every call, such as weight norm or pruning, into it."""
    freed = 0
    if parametrize.is_parametrized(module):
        # PyTorch takes the weight off the class, which the copied network would share.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
        parametrizations: Any = module.parametrizations
        for name in list(parametrizations):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            freed += 1
    hook: Any
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, prune.BasePruningMethod):
            hook.remove(module)
            del module._forward_pre_hooks[key]
            freed += 1
        elif type(hook).__name__ in _HOOKS:
            _HOOKS[type(hook).__name__](module, hook.name)
            _forget_loading(module)
            freed += 1
    return freed


def _forget_loading(module: nn.Module) -> None:
    """Take off what looks for the parameters of a spectral norm when weights are loaded."""
    hooks: Any = module._load_state_dict_pre_hooks
    for key, hook in list(hooks.items()):
        inner = getattr(hook, "hook", hook)
        if type(inner).__name__.startswith("SpectralNorm"):
            del hooks[key]
