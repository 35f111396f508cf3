"""Modules made plain before a network is traced, on the copy: weights that are weights, attention
that is linear layers and products.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

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
        if type(parent).__module__.startswith("torch.nn."):
            continue  # its own forward reads the attention's weights
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention) and _is_usual(child):
                setattr(parent, name, Attention(child))
    if not freed:
        return []
    return [f"{freed} parametrized weights became plain ones, which training does not constrain"]


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


class Attention(nn.Module):
    """Multi-head attention as linear layers and products (Vaswani et al. 2017, arXiv 1706.03762).

    Args:
        source: whose weights it takes.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = source.num_heads, source.batch_first
        whole = source.in_proj_weight is not None
        weights = (
            _thirds(source.in_proj_weight)
            if whole
            else [source.q_proj_weight, source.k_proj_weight, source.v_proj_weight]
        )
        biases = _thirds(source.in_proj_bias) if source.in_proj_bias is not None else [None] * 3
        self.query, self.key, self.value = (
            _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        self.out = _linear(source.out_proj.weight, source.out_proj.bias)
        width = source.embed_dim
        self.scale = 1 / math.sqrt(width // source.num_heads)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as ``nn.MultiheadAttention`` does in evaluation mode; masks are not supported.

        Args:
            query: (N, L, E), or (L, N, E) where the batch is not first.
            key: (N, S, E) likewise.
            value: (N, S, E) likewise.
            key_padding_mask: must be None.
            need_weights: return the weights, too.
            attn_mask: must be None.
            average_attn_weights: their mean over all heads, or those of each.
            is_causal: must be False.
        """
        if key_padding_mask is not None or attn_mask is not None or is_causal:
            raise NotImplementedError("attention with a mask")
        parts = [self.query(query), self.key(key), self.value(value)]
        if not self.batch_first:
            parts = [part.transpose(0, 1) for part in parts]
        q, k, v = (
            part.unflatten(-1, (self.heads, part.shape[-1] // self.heads)).transpose(1, 2)
            for part in parts
        )
        weights = (torch.matmul(q, k.transpose(-2, -1)) * self.scale).softmax(-1)
        made = torch.matmul(weights, v).transpose(1, 2).flatten(2)
        if not self.batch_first:
            made = made.transpose(0, 1)
        if not need_weights:
            return self.out(made), None
        return self.out(made), weights.mean(1) if average_attn_weights else weights


def _is_usual(attention: nn.MultiheadAttention) -> bool:
    """Whether it attends to what it is given alone."""
    return attention.bias_k is None and not attention.add_zero_attn


def _thirds(value: Tensor) -> list[nn.Parameter]:
    """The parts of query, key and value, as trainable as the whole."""
    return [nn.Parameter(part.clone(), value.requires_grad) for part in value.detach().chunk(3)]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=bias is not None)
    layer.in_features, layer.out_features = weight.shape[1], weight.shape[0]
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            setattr(layer, name, nn.Parameter(value.detach(), value.requires_grad))
    return layer
