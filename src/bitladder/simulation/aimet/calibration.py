"""How AIMET's quantizers find a range: their analyzers, and what may widen a weight's scale."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet.names import aimet

_Choose = Callable[[Tensor, Tensor, int], tuple[float, float]]

_FREE_GROWTH = 1e6  # of the first tensor's range; infinity would end in no number


def min_max_analyzer(quantizer: Any) -> Any:
    """An analyzer that takes the smallest and the largest value."""
    return aimet().MinMaxEncodingAnalyzer(**_shape(quantizer))


def percentile_analyzer(quantizer: Any, percentile: float) -> Any:
    """An analyzer that keeps a share of the values, in percent."""
    return aimet().PercentileEncodingAnalyzer(percentile=percentile, **_shape(quantizer))


def tf_enhanced_analyzer(quantizer: Any) -> Any:
    """AIMET's analyzer by signal to noise, in which clipping counts more than rounding."""
    return aimet().TfEnhancedEncodingAnalyzer(**_shape(quantizer))


def squared_error_analyzer(quantizer: Any) -> Any:
    """An analyzer by the squared error, of clipping and of rounding alike."""
    return aimet().SqnrEncodingAnalyzer(gamma=1.0, **_shape(quantizer))


def histogram_analyzer(quantizer: Any, bins: int, choose: _Choose) -> Any:
    """An analyzer that takes what a function finds in the histogram.

    Args:
        quantizer: that it is for.
        bins: of the histogram.
        choose: gives the smallest and the largest value of the range from the counts, (bins,), the
            edges of the bins, (bins + 1,), and the number of integers.
    """
    return _histogram_type(choose)(num_bins=bins, **_shape(quantizer))


def _shape(quantizer: Any) -> dict[str, Any]:
    return {"shape": quantizer.shape, "block_size": quantizer.block_size}


@functools.cache
def _histogram_type(choose: _Choose) -> Any:
    names: Any = aimet()

    class HistogramAnalyzer(names.PercentileEncodingAnalyzer):  # type: ignore[misc]
        """Collects a histogram and takes the range that is chosen from it."""

        @torch.no_grad()
        def compute_encodings_from_stats(
            self, stats: list[Any], num_steps: int, is_symmetric: bool
        ) -> tuple[Tensor, Tensor]:
            if stats[0].histogram is None:
                raise names.StatisticsNotFoundError("No statistics to compute encodings from.")
            ranges = []
            for seen in stats:
                low, high = choose(seen.histogram, seen.bin_edges, num_steps + 1)
                device = seen.histogram.device
                bounds = torch.tensor(low, device=device), torch.tensor(high, device=device)
                ranges.append(names.adjust_min_max(*bounds, num_steps, is_symmetric))
            lows, highs = zip(*ranges, strict=True)
            shape = self.observer.shape
            return torch.stack(lows).reshape(shape), torch.stack(highs).reshape(shape)

    return HistogramAnalyzer


def observing(quantizer: Any) -> AbstractContextManager[None]:
    """Have a quantizer count what it sees in a block and hand it on, and set its range after."""
    block: AbstractContextManager[None] = quantizer._compute_encodings(passthrough=True)
    return block


def let_grow(quantizer: Any) -> None:
    """Have the histogram of a quantizer reach as far as later values do.

    AIMET lays it out around the first tensor and clips what lies beyond ``growth_limit`` times its
    range, to keep outliers out. Where tensors of several operators share a grid, the first of them
    says nothing of the others.
    """
    observer: Any = getattr(quantizer.encoding_analyzer, "observer", None)
    if hasattr(observer, "growth_limit"):
        observer.growth_limit = _FREE_GROWTH


def is_simple(quantizer: nn.Module) -> bool:
    """Whether a quantizer is an affine one without blocks that share their scales."""
    names = aimet()
    return isinstance(quantizer, names.QuantizeDequantize) and not isinstance(
        quantizer, names.GroupedBlockQuantizeDequantize
    )


def is_quantizer(module: nn.Module) -> bool:
    """Whether a module is a quantizer."""
    return isinstance(module, aimet().QuantizerBase)


def scale_for_bias(bias: Tensor, read: Tensor, scale: Tensor, steps: int) -> Tensor:
    """Scale of a weight, widened where a bias would not fit its integers.

    Args:
        bias: of a layer, (ranges,).
        read: scale of the layer's input.
        scale: of the weight, (ranges,).
        steps: of the integers that hold the bias.
    """
    fit = aimet()._adjust_weight_scale_against_bias_overflow
    wide: Tensor = fit(bias, read, scale, num_steps=steps)
    return wide


def scale_for_output(read: Tensor, scale: Tensor, written: Tensor) -> Tensor:
    """Scale of a weight, widened where the output's rescaling would not fit its integers.

    Args:
        read: scale of the layer's input.
        scale: of the weight.
        written: of the layer's output.
    """
    wide: Tensor = aimet()._adjust_weight_scale_against_scale_underflow(read, scale, written)
    return wide
