"""Biases as integer kernels add them: int32 at the scale of input times weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bitladder.deploy.encodings import encoding_of
from bitladder.deploy.qdq import INT32_MAX, bias_integers, bias_scale
from bitladder.operators import of_node
from bitladder.simulation import SimulatedModel
from bitladder.simulation.aimet import weight_quantizer
from bitladder.simulation.placement import input_grid

_MARGIN = 1 + 2**-20  # float32 rounds what it holds


def layers_on_integers(simulated: SimulatedModel) -> Iterator[tuple[Any, Any]]:
    """Layers with a bias whose input and weight lie on grids, with the quantizer of the input."""
    for node in simulated.module.graph.find_nodes(op="call_module"):
        layer: Any = simulated.module.get_submodule(str(node.target))
        operator = of_node(node, layer)
        if operator is None or operator.family != "convolution" or layer.bias is None:
            continue
        weight, given = weight_quantizer(layer), input_grid(simulated.module, node)
        if weight is None or given is None or not weight.is_initialized():
            continue
        if given.is_initialized() and given.get_scale().numel() == 1:
            yield layer, given


@torch.no_grad()
def round_biases(simulated: SimulatedModel) -> int:
    """Round every bias of a layer on integers to its grid, and return how many there are."""
    count = 0
    for layer, given in layers_on_integers(simulated):
        grids = (encoding_of("x", given), encoding_of("w", weight_quantizer(layer)))
        values = layer.bias.detach().cpu().float().numpy()
        scale = bias_scale(*grids, values.size)
        rounded = (bias_integers(values, scale) * scale.astype(np.float64)).astype(np.float32)
        layer.bias.copy_(torch.from_numpy(rounded))
        count += 1
    return count


@contextmanager
def rounded(simulated: SimulatedModel) -> Iterator[None]:
    """Let a simulation have the biases of its file for a block, and its own again behind it."""
    before = [(layer, layer.bias.detach().clone()) for layer, _ in layers_on_integers(simulated)]
    round_biases(simulated)
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, bias in before:
                layer.bias.copy_(bias)


@torch.no_grad()
def fit_scales(simulated: SimulatedModel) -> None:
    """Widen the scale of weights whose channel has a bias that no int32 at that scale holds.

    The scale of a channel is at least ``|bias| / (s_in (2^31 - 1))``. Such channels have next to
    no weights: those of a batch norm whose gamma is zero.
    """
    for layer, given in layers_on_integers(simulated):
        quantizer = weight_quantizer(layer)
        scale = quantizer.get_scale().detach()
        least = layer.bias.detach().abs() * _MARGIN / (given.get_scale().detach() * INT32_MAX)
        if scale.numel() == 1:
            floor = least.max().reshape(scale.shape)
        else:  # channels of all groups share the scales of one group
            floor = least.reshape(-1, scale.numel()).amax(0).reshape(scale.shape)
        widen(quantizer, floor)


@torch.no_grad()
def widen(quantizer: Any, least: torch.Tensor) -> None:
    """Give a quantizer a scale of at least ``least``, of the scale's shape; zero stays in place."""
    scale, offset = quantizer.get_scale().detach(), quantizer.get_offset().detach()
    wide = torch.maximum(scale, least.to(scale))
    if bool((wide > scale).any()):
        low, high = (quantizer.qmin + offset) * wide, (quantizer.qmax + offset) * wide
        quantizer.set_range(
            torch.where(wide > scale, low, quantizer.get_min().detach()),
            torch.where(wide > scale, high, quantizer.get_max().detach()),
        )
