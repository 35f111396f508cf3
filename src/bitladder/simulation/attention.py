"""Attention, and PyTorch's modules around it, as linear layers, products and a softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
        """Attend, as ``nn.MultiheadAttention`` does in evaluation mode.

        Args:
            query: (N, L, E), or (L, N, E) where the batch is not first.
            key: (N, S, E) likewise.
            value: (N, S, E) likewise.
            key_padding_mask: (N, S), true or minus infinity where a key is left out.
            need_weights: return the weights, too.
            attn_mask: (L, S), true where a query must not see a key, or what is added to scores.
            average_attn_weights: their mean over all heads, or those of each.
            is_causal: tells that the mask is causal; the mask itself says so.
        """
        parts = [self.query(query), self.key(key), self.value(value)]
        if not self.batch_first:
            parts = [part.transpose(0, 1) for part in parts]
        q, k, v = (
            part.unflatten(-1, (self.heads, part.shape[-1] // self.heads)).transpose(1, 2)
            for part in parts
        )
        scores = torch.matmul(q, k.transpose(-2, -1)) * self.scale
        if attn_mask is not None:
            scores = _masked(scores, attn_mask)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask[:, None, None, :])
        weights = scores.softmax(-1)
        made = torch.matmul(weights, v).transpose(1, 2).flatten(2)
        if not self.batch_first:
            made = made.transpose(0, 1)
        if not need_weights:
            return self.out(made), None
        return self.out(made), weights.mean(1) if average_attn_weights else weights


class EncoderLayer(nn.Module):
    """``nn.TransformerEncoderLayer`` as the layers that it is made of.

    Args:
        source: whose layers and weights it takes.
    """

    def __init__(self, source: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.attention = Attention(source.self_attn)
        self.norm_first, self.activation = source.norm_first, source.activation
        self.first, self.second = source.linear1, source.linear2
        self.norm1, self.norm2 = source.norm1, source.norm2

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend and compute for each token, as PyTorch does in evaluation mode."""
        x = src
        if self.norm_first:
            x = x + self._attend(self.norm1(x), src_mask, src_key_padding_mask)
            return x + self._compute(self.norm2(x))
        x = self.norm1(x + self._attend(x, src_mask, src_key_padding_mask))
        normalized: Tensor = self.norm2(x + self._compute(x))
        return normalized

    def _attend(self, x: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor:
        made: Tensor = self.attention(x, x, x, padding, attn_mask=mask, need_weights=False)[0]
        return made

    def _compute(self, x: Tensor) -> Tensor:
        made: Tensor = self.second(self.activation(self.first(x)))
        return made


class Encoder(nn.Module):
    """``nn.TransformerEncoder`` without its ways around nested tensors.

    Args:
        source: whose layers it takes.
    """

    def __init__(self, source: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(written_out(layer) or layer for layer in source.layers)
        self.norm = source.norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Layer by layer."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


def written_out(module: nn.Module) -> nn.Module | None:
    """Attention, or a module of PyTorch around it, as layers; None for all others."""
    if isinstance(module, nn.MultiheadAttention) and _is_usual(module):
        return Attention(module)
    if type(module) is nn.TransformerEncoderLayer and _is_usual(module.self_attn):
        return EncoderLayer(module)
    if type(module) is nn.TransformerEncoder:
        return Encoder(module)
    return None


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores where a mask lets them be, minus infinity elsewhere; or with a mask added."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(mask, -math.inf)
    return scores + mask


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
