"""Equalize the channel ranges of neighbouring layers (Nagel et al. 2019, arXiv 1906.04721, 4.1).

ReLU passes scales on, ``relu(s x) = s relu(x)``, so a channel may be divided by ``s`` where it is
made and multiplied where it is read. With the ranges ``r1`` and ``r2`` of its weights in the two
layers, ``s = sqrt(r1 r2) / r2`` makes them equal (equation 11); pairs share layers, so this is
repeated until nothing changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from bitladder.options import CrossLayerEqualization
from bitladder.simulation import WeightedLayer, prepare
from bitladder.techniques.pairs import (
    LayerPair,
    Statistics,
    columns,
    find_pairs,
    record,
    rows,
    scale_pair,
    statistics,
)
from bitladder.techniques.registry import Context, register

_MAX_PASSES = 200


def cross_layer_equalization(
    model: nn.Module, *, tolerance: float = 1e-3
) -> tuple[fx.GraphModule, int]:
    """Equalize every pair of layers with nothing but a ReLU between them.

    Args:
        model: a network whose batch norms are folded; it is not changed.
        tolerance: largest change of a scale at which the pairs count as equal.

    Returns:
        The equalized network in evaluation mode, equal to the given one but for rounding, and the
        number of pairs.
    """
    graph_module = prepare(model)
    pairs = list(find_pairs(graph_module))
    for _ in range(_MAX_PASSES):
        changes = [_equalize(graph_module, pair) for pair in pairs]
        if max(changes, default=0.0) < tolerance:
            break
    return graph_module, len(pairs)


@register(CrossLayerEqualization)
def _apply(options: CrossLayerEqualization, model: nn.Module, context: Context) -> nn.Module:
    model, pairs = cross_layer_equalization(
        prepare(model, context.calibration), tolerance=options.tolerance
    )
    context.notes.append(f"{pairs} pairs equalized" if pairs else "no pairs of layers found")
    return model


def _equalize(graph_module: fx.GraphModule, pair: LayerPair) -> float:
    first, second = (graph_module.get_submodule(name) for name in (pair.first, pair.second))
    assert isinstance(first, WeightedLayer)
    assert isinstance(second, WeightedLayer)
    ranges = _range(rows(first)), _range(columns(second))
    scale = torch.sqrt(ranges[0] / ranges[1])
    scale = torch.where(torch.isfinite(scale) & (scale > 0), scale, torch.ones_like(scale))
    scale_pair(first, second, scale)
    known = statistics(graph_module).get(pair.first)
    if known is not None:
        scaled = Statistics(known.mean / scale, known.deviation / scale)
        record(graph_module, pair.first, scaled)
    return float((scale - 1).abs().max())


def _range(weight: Tensor) -> Tensor:
    return weight.detach().flatten(1).abs().amax(1)
