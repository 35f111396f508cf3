"""Absorb high biases into the next layer (Nagel et al. 2019, arXiv 1906.04721, section 4.1.3).

Where a channel's mean lies far above zero, ReLU lets it pass whole: with
``c = max(0, beta - 3 gamma)``, ``relu(W x + b) = relu(W x + b - c) + c`` for all but 0.135 % of
values, so ``c`` can leave the bias, and the range of the activation with it, and be added to the
next layer's bias as ``W2 c``.
"""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvTransposeNd

from bitladder.options import HighBiasFold
from bitladder.simulation import WeightedLayer, prepare
from bitladder.techniques.pairs import Statistics, expected_output, find_pairs, record, statistics
from bitladder.techniques.registry import Context, register


def high_bias_fold(
    model: nn.Module, *, deviations: float = 3.0, padded: bool = False
) -> tuple[fx.GraphModule, int]:
    """Absorb high biases of every pair of layers with a ReLU between them.

    The float function changes only where an activation falls below what was absorbed, and, with
    ``padded``, at the borders of layers that pad with zeros. Nothing is absorbed into transposed
    convolutions, which make of a constant something that is none.

    Args:
        model: a network as ``fold_batch_norm`` returns it; it is not changed.
        deviations: what lies this many standard deviations under the mean is absorbed.
        padded: absorb into layers that pad, too.

    Returns:
        The changed network in evaluation mode and the number of channels absorbed.
    """
    graph_module = prepare(model)
    absorbed = 0
    for pair in find_pairs(graph_module):
        known = statistics(graph_module).get(pair.first)
        first, second = (graph_module.get_submodule(name) for name in (pair.first, pair.second))
        assert isinstance(first, WeightedLayer)
        assert isinstance(second, WeightedLayer)
        if known is None or not pair.relu or first.bias is None or second.bias is None:
            continue
        if isinstance(second, _ConvTransposeNd) or (_pads(second) and not padded):
            continue
        height = (known.mean - deviations * known.deviation).clamp(min=0)
        with torch.no_grad():
            first.bias.sub_(height)
            second.bias.add_(expected_output(second, second.weight, height))
        record(graph_module, pair.first, Statistics(known.mean - height, known.deviation))
        absorbed += int((height > 0).sum())
    return graph_module, absorbed


@register(HighBiasFold)
def _apply(options: HighBiasFold, model: nn.Module, context: Context) -> nn.Module:
    model, absorbed = high_bias_fold(
        prepare(model, context.calibration), deviations=options.deviations, padded=options.padded
    )
    context.notes.append(f"{absorbed} biases absorbed")
    return model


def _pads(layer: WeightedLayer) -> bool:
    if isinstance(layer, nn.Linear):
        return False
    return layer.padding != "valid" and any(layer.padding)
