"""Layers that follow one another, and what folded batch norms say of their outputs.

A batch norm gives its output the mean ``beta`` and the standard deviation ``|gamma|`` of each
channel; after folding, the network carries these along for the techniques that need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

WeightedLayer: TypeAlias = _ConvNd | nn.Linear
_STATISTICS = "bitladder_statistics"


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a layer's output, (channels,), before its activation."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class LayerPair:
    """Two layers with nothing between them but perhaps a ReLU.

    Attributes:
        first: name of the layer whose outputs the other one alone reads.
        second: name of the layer that reads them.
        relu: whether a ReLU stands between them.
    """

    first: str
    second: str
    relu: bool


def record(model: fx.GraphModule, layer: str, statistics: Statistics) -> None:
    """Keep what is known of a layer's output."""
    model.meta[_STATISTICS] = {**model.meta.get(_STATISTICS, {}), layer: statistics}


def statistics(model: fx.GraphModule) -> dict[str, Statistics]:
    """What is known of the layers' outputs, by name."""
    return dict(model.meta.get(_STATISTICS, {}))


def find_pairs(model: fx.GraphModule) -> Iterator[LayerPair]:
    """Pairs whose channels can be scaled against each other, in the order of the graph.

    Layers that share a weight or a bias with another one are in none.
    """
    modules = dict(model.named_modules())
    calls = [str(node.target) for node in model.graph.nodes if node.op == "call_module"]
    for node in model.graph.nodes:
        first = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(first, WeightedLayer) or len(node.users) != 1:
            continue
        follower = next(iter(node.users))
        relu = isinstance(modules.get(str(follower.target)), nn.ReLU)
        if relu and len(follower.users) == 1:
            follower = next(iter(follower.users))
        second = modules.get(str(follower.target)) if follower.op == "call_module" else None
        once = calls.count(str(node.target)) == calls.count(str(follower.target)) == 1
        if not isinstance(second, WeightedLayer):
            continue
        if once and _reads_channel_by_channel(first, second):
            yield LayerPair(str(node.target), str(follower.target), relu)


def rows(layer: WeightedLayer) -> Tensor:
    """The weight as (output channels, ...), a view where the layout allows."""
    weight = layer.weight
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    if layer.groups == 1:
        return weight.transpose(0, 1)
    grouped = weight.view(layer.groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.reshape(layer.out_channels, -1, *weight.shape[2:])


def columns(layer: WeightedLayer) -> Tensor:
    """The weight as (input channels, ...): what each input channel is multiplied with."""
    weight = layer.weight
    if isinstance(layer, _ConvTransposeNd) or _depthwise(layer):
        return weight
    return weight.transpose(0, 1)


def expected_output(layer: WeightedLayer, weight: Tensor, means: Tensor) -> Tensor:
    """Mean of a layer's output (out channels,) without bias, for inputs of these means.

    Args:
        layer: tells groups and layout.
        weight: in the layout of the layer's own.
        means: of each input channel, (in channels,); padding is not counted.

    A transposed convolution with a stride spreads its taps over the positions in between, so that
    each position reads one tap of ``stride`` on average.
    """
    if isinstance(layer, nn.Linear):
        return weight @ means
    summed = weight.flatten(2).sum(2)
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups)
        grouped = (summed * means[:, None]).view(layer.groups, -1, summed.shape[1])
        return grouped.sum(1).flatten() / math.prod(layer.stride)
    given = means.view(layer.groups, 1, -1)
    return (summed.view(layer.groups, -1, summed.shape[1]) * given).sum(2).flatten()


def scale_pair(first: WeightedLayer, second: WeightedLayer, scale: Tensor) -> None:
    """Divide the first layer's output channels by ``scale`` and multiply them in the second."""
    with torch.no_grad():
        if isinstance(first, _ConvTransposeNd):
            spread = scale.view(first.groups, 1, -1, *[1] * (first.weight.dim() - 2))
            grouped = first.weight.view(first.groups, -1, *first.weight.shape[1:])
            first.weight.copy_((grouped / spread).view_as(first.weight))
        else:
            first.weight.div_(scale.view(-1, *[1] * (first.weight.dim() - 1)))
        if first.bias is not None:
            first.bias.div_(scale)
        by_input = columns(second)
        by_input.mul_(scale.view(-1, *[1] * (by_input.dim() - 1)))


def _reads_channel_by_channel(first: WeightedLayer, second: WeightedLayer) -> bool:
    out = first.out_features if isinstance(first, nn.Linear) else first.out_channels
    if isinstance(second, nn.Linear):
        return isinstance(first, nn.Linear) and second.in_features == out
    if isinstance(first, nn.Linear) or second.in_channels != out:
        return False
    return second.groups == 1 or _depthwise(second)


def _depthwise(layer: WeightedLayer) -> bool:
    return (
        not isinstance(layer, nn.Linear) and layer.groups == layer.in_channels == layer.out_channels
    )
