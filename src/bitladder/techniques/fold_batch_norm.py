"""Fold batch norms into the layers beside them; the float function does not change.

For ``y = gamma (W x + b - mu) / sigma + beta`` the folded layer has ``W' = W gamma / sigma`` and
``b' = (b - mu) gamma / sigma + beta`` (Jacob et al. 2018, arXiv 1712.05877, section 3.2).
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from bitladder.operators import of_node
from bitladder.options import FoldBatchNorm
from bitladder.simulation import SimulatedModel, note_ranks, prepare
from bitladder.simulation.aimet import (
    forget_bias_quantizer,
    output_quantizer,
    output_quantizers,
    weight_quantizer,
)
from bitladder.techniques.pairs import Statistics, record
from bitladder.techniques.registry import Context, register, register_rebuild

_Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_POINTWISE: dict[type[nn.Module], type[nn.Conv2d] | type[nn.Conv3d]] = {
    nn.BatchNorm2d: nn.Conv2d,
    nn.BatchNorm3d: nn.Conv3d,
}
_Foldable: TypeAlias = _Convolution | _Transposed | nn.Linear


def fold_batch_norm(model: nn.Module) -> tuple[fx.GraphModule, int]:
    """Fold every batch norm beside a convolution or linear layer, before or after it.

    A batch norm is left alone where another layer reads the same tensor, where it is used twice,
    or where it stands before a convolution that pads (the padding would not be normalized).

    Args:
        model: any network that torch.fx can trace; it is not changed. Where a batch norm of one
            dimension stands beside a linear layer, ``note_ranks`` tells whether it reads tokens.

    Returns:
        The folded network in evaluation mode and the number of batch norms folded.
    """
    graph_module = prepare(model)
    folded = 0
    for node in list(graph_module.graph.nodes):
        norm = _module(graph_module, node)
        if _has_statistics(norm) and _used_once(graph_module, node):
            assert isinstance(norm, BatchNorm)
            folded += _fold_one(graph_module, node, norm)
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module, folded


def to_depthwise(graph_module: fx.GraphModule) -> int:
    """Turn batch norms of images that are left into depthwise convolutions of one pixel, in place.

    ``y = s x + t`` a channel is such a convolution, which targets run on integers; a batch norm
    alone runs in float. A single weight a channel lies on its grid exactly.

    Returns:
        How many were turned.
    """
    turned = 0
    for node in graph_module.graph.find_nodes(op="call_module"):
        norm = _module(graph_module, node)
        kind = next((k for k, own in _POINTWISE.items() if isinstance(norm, k)), None)
        if kind is None or not _has_statistics(norm):
            continue
        assert isinstance(norm, BatchNorm)
        channels = norm.num_features
        layer = _POINTWISE[kind](channels, channels, 1, groups=channels).to(norm.running_var)
        gamma, beta = _affine(norm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = gamma * torch.rsqrt(norm.running_var + norm.eps)
        with torch.no_grad():
            layer.weight.copy_(scale.view_as(layer.weight))
            assert layer.bias is not None
            layer.bias.copy_(beta - norm.running_mean * scale)
        for own, source in ((layer.weight, norm.weight), (layer.bias, norm.bias)):
            own.requires_grad_(source is None or source.requires_grad)
        graph_module.add_submodule(str(node.target), layer)
        turned += 1
    return turned


def fold_simulated(model: SimulatedModel) -> int:
    """Fold the batch norms behind the layers of a simulated network, in place.

    A channel's weights and their range are scaled alike, so that its integers stay; where a batch
    norm turns a channel's sign, the integer that the grid has on one side only is clipped. A range
    that all channels share is found anew.

    Returns:
        How many were folded.
    """
    graph_module = model.module
    assert isinstance(graph_module, fx.GraphModule)
    folded = 0
    for node in list(graph_module.graph.nodes):
        norm = _module(graph_module, node)
        if not _has_statistics(norm):
            continue
        assert isinstance(norm, BatchNorm)
        source = _before(graph_module, node)
        layer = None if source is None else _module(graph_module, source)
        if source is None or not isinstance(layer, _Foldable) or not _by_channel(node, norm, layer):
            continue
        if _used_once(graph_module, source) and _used_once(graph_module, node):
            _fold_ranges(layer, norm)
            folded += _remove(graph_module, node)
    graph_module.graph.lint()
    graph_module.recompile()
    return folded


def _fold_ranges(layer: _Foldable, norm: BatchNorm) -> None:
    """Fold a batch norm into a quantized layer and what its quantizers hold."""
    weight = weight_quantizer(layer)
    assert norm.running_var is not None
    scale = (_affine(norm)[0] * torch.rsqrt(norm.running_var + norm.eps)).abs()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # weights of zero fit any range
    _fold_into_previous(layer, norm)
    forget_bias_quantizer(layer)
    output_quantizers(layer)["0"] = output_quantizer(norm)
    with torch.no_grad():
        if weight is not None and weight.min.numel() == scale.numel():
            for bound in (weight.min, weight.max):
                bound.mul_(scale.view_as(bound))
        elif weight is not None:  # one range for channels that are now scaled apart
            with weight.compute_encodings():
                weight(layer.weight)


@register_rebuild(FoldBatchNorm)
@register(FoldBatchNorm)
def _apply(options: FoldBatchNorm, model: nn.Module, context: Context) -> nn.Module:
    prepared = prepare(model, context.calibration)
    note_ranks(prepared, context.example(2))
    graph_module, folded = fold_batch_norm(prepared)
    context.notes.append(f"{folded} batch norms folded")
    if turned := to_depthwise(graph_module):
        context.notes.append(f"{turned} batch norms without a layer became depthwise convolutions")
    if left := sum(isinstance(module, BatchNorm) for module in graph_module.modules()):
        context.notes.append(f"{left} batch norms stay: no layer beside them could take them")
    return graph_module


def _has_statistics(norm: nn.Module | None) -> bool:
    """Whether a module is a batch norm that does not take its statistics from each batch."""
    return isinstance(norm, BatchNorm) and norm.running_mean is not None


def _fold_one(graph_module: fx.GraphModule, node: fx.Node, norm: BatchNorm) -> int:
    source = _before(graph_module, node)
    if source is not None:
        layer = _module(graph_module, source)
        once = _used_once(graph_module, source)
        if isinstance(layer, _Foldable) and _by_channel(node, norm, layer) and once:
            _fold_into_previous(layer, norm)
            gamma, beta = _affine(norm)
            record(graph_module, str(source.target), Statistics(beta, gamma.abs()))
            return _remove(graph_module, node)
    if len(node.users) == 1:
        user = next(iter(node.users))
        layer = _module(graph_module, user)
        if (
            _takes_previous(layer)
            and _by_channel(node, norm, layer)
            and _used_once(graph_module, user)
        ):
            _fold_into_next(layer, norm)
            return _remove(graph_module, node)
    return 0


def _by_channel(node: fx.Node, norm: BatchNorm, layer: nn.Module | None) -> bool:
    """Whether a batch norm normalizes the channels of the layer beside it.

    Of (N, tokens, channels) it normalizes tokens, where a linear layer reads and gives channels.
    """
    if not isinstance(layer, nn.Linear):
        return True
    widths = (layer.in_features, layer.out_features)
    return node.meta.get("rank", 2) == 2 and norm.num_features in widths


def _before(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """What a node alone reads, past modules that do nothing when the network runs."""
    source = node.args[0]
    while isinstance(source, fx.Node) and len(source.users) == 1:
        operator = of_node(source, _module(graph_module, source))
        if operator is None or operator.name != "identity" or source.op != "call_module":
            return source
        source = source.args[0]
    return None


def _module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _used_once(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    return sum(bool(other.target == node.target) for other in graph_module.graph.nodes) == 1


def _takes_previous(layer: nn.Module | None) -> bool:
    if isinstance(layer, nn.Linear):
        return True
    return isinstance(layer, _Convolution) and not any(
        padding != 0 for padding in (layer.padding if isinstance(layer.padding, tuple) else (1,))
    )


def _fold_into_previous(layer: _Foldable, norm: BatchNorm) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    gamma, beta = _affine(norm)
    weight: torch.Tensor
    bias: torch.Tensor
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(
            layer.weight, layer.bias, mean, variance, norm.eps, gamma, beta
        )
    else:
        weight, bias = _fold_convolution(layer, mean, variance, norm.eps, gamma, beta)
    _replace(layer, norm, weight, bias)


def _replace(layer: _Foldable, norm: BatchNorm, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Give a layer its folded weight and bias, trained if what they are made of was.

    Nothing else decides: torch's own folding gives a new bias the flag of a tensor of zeros, and
    then no optimizer takes it.
    """
    trained = layer.weight.requires_grad
    parts = [part for part in (layer.bias, norm.bias) if part is not None]
    moved = any(part.requires_grad for part in parts) if parts else trained
    layer.weight = nn.Parameter(weight.detach(), trained)
    layer.bias = nn.Parameter(bias.detach(), moved)


def _fold_convolution(
    layer: _Convolution | _Transposed,
    mean: torch.Tensor,
    variance: torch.Tensor,
    eps: float,
    gamma: torch.Tensor,
    beta: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(layer, _Transposed) or layer.groups == 1:
        transposed = isinstance(layer, _Transposed)
        return fuse_conv_bn_weights(
            layer.weight, layer.bias, mean, variance, eps, gamma, beta, transposed
        )
    # A grouped transposed convolution keeps (in, out / groups, ...): scale group by group.
    scale = gamma * torch.rsqrt(variance + eps)
    grouped = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    by_group = scale.view(layer.groups, 1, -1, *[1] * (layer.weight.dim() - 2))
    bias = layer.bias if layer.bias is not None else torch.zeros_like(mean)
    return (grouped * by_group).view_as(layer.weight), (bias - mean) * scale + beta


def _fold_into_next(layer: nn.Module | None, norm: BatchNorm) -> None:
    """``W (s x + t) + b = (W s) x + (W t + b)``; exact where nothing is padded."""
    assert isinstance(layer, _Convolution | nn.Linear)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gamma, beta = _affine(norm)
    scale = gamma * torch.rsqrt(norm.running_var + norm.eps)
    shift = beta - norm.running_mean * scale
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    weight = layer.weight.detach()
    out = weight.shape[0]
    # Row r of the weight reads the input channels of its own group.
    by_group = [values.view(groups, 1, -1) for values in (scale, shift)]
    per_row = [v.expand(groups, out // groups, -1).reshape(out, -1) for v in by_group]
    spread = [v.view(out, -1, *[1] * (weight.dim() - 2)) for v in per_row]
    bias = layer.bias.detach() if layer.bias is not None else weight.new_zeros(out)
    bias = bias + (weight * spread[1]).flatten(1).sum(1)
    _replace(layer, norm, weight * spread[0], bias)


def _affine(norm: BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None
    gamma = norm.weight if norm.affine else torch.ones_like(norm.running_mean)
    beta = norm.bias if norm.affine else torch.zeros_like(norm.running_mean)
    return gamma.detach(), beta.detach()


def _remove(graph_module: fx.GraphModule, node: fx.Node) -> int:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    node.replace_all_uses_with(source)
    graph_module.graph.erase_node(node)
    graph_module.delete_submodule(str(node.target))
    return 1
