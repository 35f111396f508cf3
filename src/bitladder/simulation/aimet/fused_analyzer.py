"""The kernel in place of AIMET's search for the best grid, and for all channels of weights at once.

Ranges are AIMET's, to the bit: where two grids are too close for the order of a sum not to matter,
AIMET's own search decides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bitladder.simulation.aimet.fused_observer import accelerate_observer, count_channels
from bitladder.simulation.aimet.names import aimet
from bitladder.simulation.kernel.build import KernelUnavailableError, library

_Range: TypeAlias = tuple[Tensor, Tensor]


def accelerate_analyzer(analyzer: Any) -> None:
    """Have one of AIMET's analyzers count and search with the kernel; nothing else changes.

    Without the kernel it is left as it is.
    """
    try:
        library()
    except KernelUnavailableError:
        return
    names: Any = aimet()
    accelerate_observer(analyzer.observer)
    kind: Any = type(analyzer)
    if kind in (names.SqnrEncodingAnalyzer, names.TfEnhancedEncodingAnalyzer):
        analyzer.__class__ = _searching_type(kind)


def range_of_channels(
    analyzer: Any, x: Tensor, low: Tensor, high: Tensor, steps: int, symmetric: bool
) -> _Range | None:
    """The range that an analyzer finds for each channel, in its own shape.

    Args:
        analyzer: one of AIMET's.
        x: finite float32 on the CPU, contiguous; channels one after the other.
        low: smallest value of each channel, (channels,).
        high: the largest.
        steps: between the ends of the grid.
        symmetric: whether zero is the middle of the grid.

    Returns:
        None where only the analyzer itself knows.
    """
    names: Any = aimet()
    shape = analyzer.observer.shape
    if hasattr(analyzer, "range_of"):
        found: _Range = analyzer.range_of(x, low, high, steps, symmetric)
    elif type(analyzer) is names.MinMaxEncodingAnalyzer:
        seen = names._MinMaxRange(low.view(shape), high.view(shape))
        found = analyzer.compute_encodings_from_stats(seen, steps, symmetric)
    elif type(analyzer) is names.PercentileEncodingAnalyzer:
        found = _percentile(analyzer, x, low, high, steps, symmetric)
    else:
        return None
    return found[0].view(shape), found[1].view(shape)


@functools.cache
def _searching_type(base: Any) -> Any:
    """An analyzer that minimizes squared error, with the search done by the kernel."""
    names: Any = aimet()

    class FusedSearch(base):  # type: ignore[misc]
        """Finds the candidate that AIMET finds."""

        def _select_best_candidates(
            self, test_deltas: Tensor, test_offsets: Tensor, stats: list[Any], num_steps: int
        ) -> tuple[Tensor, Tensor]:
            if test_deltas.dtype != torch.float32 or test_deltas.device.type != "cpu":
                return self._select(test_deltas, test_offsets, stats, num_steps)
            counts = torch.stack([seen.histogram for seen in stats])
            edges = torch.stack([seen.bin_edges for seen in stats])
            search = functools.partial(
                library().search_grid, counts.data_ptr(), edges.data_ptr(), counts.shape[1]
            )
            return self._choose(test_deltas, test_offsets, num_steps, search, stats.__getitem__)

        def range_of(
            self, x: Tensor, low: Tensor, high: Tensor, steps: int, symmetric: bool
        ) -> Any:
            """Range of each channel, as ``compute_encodings_from_stats`` would find it."""
            bottom = low.clamp(max=0)
            top = torch.maximum(high.clamp(min=0), bottom + names._get_minimum_scale(steps) * steps)
            pick = (
                self._pick_test_candidates_symmetric
                if symmetric
                else self._pick_test_candidates_asymmetric
            )
            deltas, offsets = pick(bottom, top, steps)
            channels = x.view(len(low), -1)
            bins = self.observer.num_bins
            search = functools.partial(
                library().search_weights,
                x.data_ptr(),
                low.data_ptr(),
                high.data_ptr(),
                channels.shape[1],
                bins,
            )

            def stats(index: int) -> Any:
                [seen] = names._HistogramObserver((), num_bins=bins).collect_stats(channels[index])
                return seen

            delta, offset = self._choose(deltas, offsets, steps, search, stats)
            start = offset * delta
            return start, start + steps * delta

        def _choose(
            self,
            deltas: Tensor,
            offsets: Tensor,
            steps: int,
            search: Callable[..., None],
            stats: Callable[[int], Any],
        ) -> tuple[Tensor, Tensor]:
            """The best candidate of each histogram; AIMET's search decides between near ones."""
            scales = deltas.flatten(1).contiguous()
            starts = offsets.expand_as(deltas).flatten(1).contiguous()
            found = torch.empty(len(deltas), dtype=torch.int64)
            pointers = scales.data_ptr(), starts.data_ptr()
            search(*pointers, scales.shape[1], len(deltas), steps, self.gamma, found.data_ptr())
            place = found.clamp(min=0)[:, None]
            scale, offset = scales.gather(1, place), starts.gather(1, place)
            for index in (found < 0).nonzero().flatten().tolist():
                one = slice(index, index + 1)
                own = offsets if len(offsets) == 1 else offsets[one]
                scale[one], offset[one] = self._select(deltas[one], own, [stats(index)], steps)
            return scale, offsets if offsets.numel() == 1 else offset

        def _select(self, *given: Any) -> tuple[Tensor, Tensor]:
            selected: tuple[Tensor, Tensor] = super()._select_best_candidates(*given)
            return selected

    return FusedSearch


def _percentile(
    analyzer: Any, x: Tensor, low: Tensor, high: Tensor, steps: int, symmetric: bool
) -> _Range:
    """What ``PercentileEncodingAnalyzer`` finds, of all channels at once."""
    observer = analyzer.observer
    edges = observer._create_bin_edges(low[:, None], high[:, None], x.device)
    first, last = edges[:, 0].contiguous(), edges[:, -1].contiguous()
    counts = count_channels(x, (len(low), len(low)), first, last, observer.num_bins)
    sums = counts.cumsum(1)
    total = sums[:, -1:].contiguous()
    if analyzer.percentile == 100:
        bottom, top = first, last
    else:
        above = torch.searchsorted(sums, total * analyzer.percentile / 100)
        below = torch.searchsorted(sums, total * (1 - analyzer.percentile / 100))
        bottom, top = edges.gather(1, below)[:, 0], edges.gather(1, above)[:, 0]
    return _around_zero(bottom, top, steps, symmetric)


def _around_zero(low: Tensor, high: Tensor, steps: int, symmetric: bool) -> _Range:
    """AIMET's ``adjust_min_max`` of many ranges: with zero, not too narrow, symmetric if asked."""
    least = aimet()._get_minimum_scale(steps)
    largest = torch.finfo(low.dtype).max
    low, high = low.clamp(-largest, 0), high.clamp(0, largest)
    narrow = (high - low) / steps < least
    above, below = steps // 2, math.ceil(steps / 2)
    if not symmetric:
        return low, torch.where(narrow, high + least * steps, high)
    low = torch.where(narrow, low - least * below, low)
    high = torch.where(narrow, high + least * above, high)
    delta = torch.maximum(high / above, -low / below)
    return -below * delta, above * delta
