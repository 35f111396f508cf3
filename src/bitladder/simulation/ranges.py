"""How quantizers find their ranges: AIMET's analyzers, one by entropy, and one for logits."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.options import Calibrate
from bitladder.simulation.aimet import (
    accelerate_analyzer,
    cross_entropies,
    histogram_analyzer,
    min_max_analyzer,
    percentile_analyzer,
    squared_error_analyzer,
    tf_enhanced_analyzer,
)
from bitladder.tasks.classes import by_class, share_loss, shares

_BINS = 2048
_CANDIDATES = 100  # shares of the observed range that are tried
_NARROWEST = 0.1
_LOGIT_SHARES = 21  # of each end of the logits' range
_LEAST_GAIN = 1e-4  # nats; below it, the range that is there or was found first is kept
_ROUNDING = 1e-5  # nats, relative above one; nearer than that, the order of sums could decide


def set_analyzer(quantizer: nn.Module, options: Calibrate, *, weight: bool) -> None:
    """Have a quantizer of a simulated network find its range by ``options.method``.

    Entropy compares distributions, which a weight's few values per channel do not make: weights
    then take the least mean squared error.
    """
    analyzer: Any
    if options.method == "min_max":
        analyzer = min_max_analyzer(quantizer)
    elif options.method == "percentile":
        analyzer = percentile_analyzer(quantizer, options.percentile)
    elif options.method == "sqnr":
        analyzer = tf_enhanced_analyzer(quantizer)
    elif options.method == "mse" or weight:
        analyzer = squared_error_analyzer(quantizer)
    else:
        analyzer = histogram_analyzer(quantizer, _BINS, entropy_range)
    accelerate_analyzer(analyzer)
    quantizer.encoding_analyzer = analyzer


def set_logits_range(quantizer: Any, logits: Tensor) -> None:
    """Give the logits' quantizer the range that changes the softmax least.

    What decides between classes are the largest logits, which the mean squared error weighs like
    all others: at few bits classes then tie. The cross-entropy between the softmax of the logits
    and of their quantized values is minimized in its place (Nagel et al. 2021, arXiv 2106.08295,
    section 3.1), over shares of the observed range; the range that is there is a candidate.

    Args:
        quantizer: per tensor, with a range; it is changed.
        logits: float values that it quantizes, (N, classes); a single one stands for two classes.
    """
    wanted = shares(logits)
    steps = torch.linspace(0, 1, _LOGIT_SHARES, device=logits.device)
    low, high = torch.cartesian_prod(steps, steps[1:]).unbind(1)
    low, high = low * logits.min().clamp(max=0), high * logits.max().clamp(min=0)

    def loss() -> float:
        return float(share_loss(quantizer(logits).as_subclass(Tensor), wanted))

    first, found = loss(), (quantizer.get_min(), quantizer.get_max())

    @functools.cache
    def exact(index: int) -> float:
        quantizer.set_range(low[index].view(quantizer.shape), high[index].view(quantizer.shape))
        return loss()

    losses = {-1: first}
    # The zero that stands beside a single logit is on every grid, so that it may be quantized too.
    estimates = cross_entropies(quantizer, by_class(logits), wanted, low, high)
    best = -1
    for index in range(len(low)):
        losses[index] = exact(index) if estimates is None else float(estimates[index])
        better = losses[index] < losses[best] - _LEAST_GAIN
        near = _ROUNDING * max(1.0, losses[best])
        if abs(losses[index] - losses[best] + _LEAST_GAIN) < near:
            before = first if best < 0 else exact(best)
            better = exact(index) < before - _LEAST_GAIN
        best = index if better else best
    if best >= 0:
        quantizer.set_range(low[best].view(quantizer.shape), high[best].view(quantizer.shape))
        found = quantizer.get_min(), quantizer.get_max()
    quantizer.set_range(*found)


def entropy_range(counts: Tensor, edges: Tensor, levels: int) -> tuple[float, float]:
    """The part of a histogram's range that quantization changes least.

    The distribution clipped to each candidate range is compared with what ``levels`` equal steps
    make of it; the range of the smallest Kullback-Leibler divergence is taken (Migacz 2017,
    "8-bit inference with TensorRT").

    Args:
        counts: values in each bin, (bins,).
        edges: of the bins, ascending, (bins + 1,).
        levels: integers of the grid.
    """
    counts, edges = counts.double(), edges.double()
    centers = (edges[1:] + edges[:-1]) / 2
    best, found = float("inf"), (float(edges[0]), float(edges[-1]))
    for share in torch.linspace(_NARROWEST, 1.0, _CANDIDATES).tolist():
        low, high = min(0.0, share * float(edges[0])), max(0.0, share * float(edges[-1]))
        inside = (centers >= low) & (centers <= high)
        if not inside.any():
            continue
        divergence = _divergence(counts, centers, inside, low, high, levels)
        if divergence < best:
            best, found = divergence, (low, high)
    return found


def _divergence(
    counts: Tensor, centers: Tensor, inside: Tensor, low: float, high: float, levels: int
) -> float:
    kept = counts[inside]
    clipped = kept.clone()  # what lies outside ends up in the outermost bins
    clipped[0] += counts[centers < low].sum()
    clipped[-1] += counts[centers > high].sum()
    step = (high - low) / (levels - 1) or 1.0
    level = ((centers[inside] - low) / step).round().long()
    mass = counts.new_zeros(levels).index_add_(0, level, kept)
    filled = (kept > 0).double()
    bins = counts.new_zeros(levels).index_add_(0, level, filled)
    spread = filled * (mass / bins.clamp(min=1))[level]
    reference, candidate = clipped / clipped.sum(), spread / spread.sum().clamp(min=1e-300)
    terms = reference * (reference / candidate.clamp(min=1e-12)).log()
    return float(terms[reference > 0].sum())
