"""How quantizers find their ranges: AIMET's analyzers, one by entropy, and one for outputs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
from bitladder.structures import Outputs
from bitladder.tasks.classes import shares
from bitladder.tasks.task import HasLogits, Task

_BINS = 2048
_CANDIDATES = 100  # shares of the observed range that are tried
_NARROWEST = 0.1
_OUTPUT_SHARES = 21  # of each end of an output's range
_FEWEST, _VALUES = 8, 200_000  # images and values on which a loss without a kernel is tried
_LEAST_GAIN = 1e-4  # such as nats; below it, the range that is there or was found first is kept
_ROUNDING = 1e-5  # relative above one; nearer than that, the order of sums could decide


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


def set_output_range(quantizer: Any, outputs: Outputs, names: Sequence[str], task: Task) -> None:
    """Give the quantizer of an output the range that changes the task's ``range_loss`` least.

    What decides between classes are the largest logits, which the mean squared error weighs like
    all others: at few bits classes then tie. A classifier minimizes in its place the cross-entropy
    between the softmax of the logits and of their quantized values (Nagel et al. 2021, arXiv
    2106.08295, section 3.1). Shares of the observed range are tried; the range that is there is a
    candidate, and stays where the loss does not depend on these outputs.

    Args:
        quantizer: per tensor, with a range; it is changed.
        outputs: float values of all outputs.
        names: of those that it quantizes.
        task: what they mean.
    """
    if not _matters(outputs, names, task):
        return
    device = quantizer.min.device
    lowest = torch.stack([outputs[name].min() for name in names]).min().to(device)
    highest = torch.stack([outputs[name].max() for name in names]).max().to(device)
    steps = torch.linspace(0, 1, _OUTPUT_SHARES, device=device)
    low, high = torch.cartesian_prod(steps, steps[1:]).unbind(1)
    low, high = low * lowest.clamp(max=0), high * highest.clamp(min=0)
    estimates = _estimates(quantizer, outputs, names, task, low, high)
    if estimates is None and not isinstance(task, HasLogits):
        outputs = _fewer(outputs, names)
    reference = {name: values.to(device) for name, values in outputs.items()}

    def loss() -> float:
        rounded = {name: quantizer(reference[name]).as_subclass(Tensor) for name in names}
        found = task.range_loss({**reference, **rounded}, reference)
        assert found is not None
        return float(found)

    first, found = loss(), (quantizer.get_min(), quantizer.get_max())

    @functools.cache
    def exact(index: int) -> float:
        quantizer.set_range(low[index].view(quantizer.shape), high[index].view(quantizer.shape))
        return loss()

    losses = {-1: first}
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


def _matters(outputs: Outputs, names: Sequence[str], task: Task) -> bool:
    """Whether the loss depends on some of the outputs."""
    without = {**outputs, **{name: torch.zeros_like(outputs[name]) for name in names}}
    first, other = task.range_loss(outputs, outputs), task.range_loss(without, outputs)
    return first is not None and other is not None and float(first) != float(other)


def _estimates(
    quantizer: Any,
    outputs: Outputs,
    names: Sequence[str],
    task: Task,
    low: Tensor,
    high: Tensor,
) -> Tensor | None:
    """The loss of each range where it is the cross-entropy of logits that are these outputs."""
    if not isinstance(task, HasLogits):
        return None
    logits = task.logits(outputs)
    without = {**outputs, **{name: torch.zeros_like(outputs[name]) for name in names}}
    if task.logits(without).any():  # other outputs have a part in them
        return None
    # The zero that stands beside a single logit is on every grid, so that it may be quantized too.
    return cross_entropies(quantizer, logits, shares(logits), low, high)


def _fewer(outputs: Outputs, names: Sequence[str]) -> Outputs:
    """The first images, as many as make the search quick."""
    rows = min(len(outputs[name]) for name in names)
    each = max(1, sum(outputs[name].numel() for name in names) // max(1, rows))
    kept = max(_FEWEST, _VALUES // each)
    return {name: values[:kept] if values.dim() else values for name, values in outputs.items()}


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
