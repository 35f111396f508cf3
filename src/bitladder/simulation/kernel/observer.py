"""The kernel in place of AIMET's histograms and of its search for the best grid.

Statistics and ranges are AIMET's, to the bit: bins are counted alike, and where two grids are too
close for the order of a sum not to matter, AIMET's own search decides.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from bitladder.simulation.aimet import aimet
from bitladder.simulation.kernel.build import KernelUnavailableError, library
from bitladder.simulation.kernel.layout import dense, in_memory_order, rows_and_channels


def accelerate_analyzer(analyzer: Any) -> None:
    """Have one of AIMET's analyzers count and search with the kernel; nothing else changes.

    Without the kernel it is left as it is.
    """
    try:
        library()
    except KernelUnavailableError:
        return
    package = aimet("quantization.encoding_analyzer")
    if type(analyzer.observer) is package._HistogramObserver:
        analyzer.observer.__class__ = _histogram_type()
    elif type(analyzer.observer) is package._MinMaxObserver:
        analyzer.observer.__class__ = _min_max_type()
    kind: Any = type(analyzer)
    if kind in (package.SqnrEncodingAnalyzer, package.TfEnhancedEncodingAnalyzer):
        analyzer.__class__ = _searching_type(kind)


@functools.cache
def _min_max_type() -> Any:
    """AIMET's observer of the smallest and largest value, defined when AIMET is first needed."""
    package = aimet("quantization.encoding_analyzer")

    class FusedMinMaxObserver(package._MinMaxObserver):  # type: ignore[misc,name-defined]
        """Finds both in one pass over memory where they are one number each."""

        @torch.no_grad()
        def observe(self, values: Tensor) -> None:
            """Add a batch to the statistics, as ``collect_stats`` and ``merge_stats`` would."""
            if self.block_size or any(length > 1 for length in self.shape):
                self.merge_stats(self.collect_stats(values))
                return
            low, high = torch.aminmax(in_memory_order(dense(values)))
            self.merge_stats(package._MinMaxRange(low.view(self.shape), high.view(self.shape)))

    return FusedMinMaxObserver


@functools.cache
def _histogram_type() -> Any:
    """AIMET's histogram observer with a faster way in, defined when AIMET is first needed."""
    package = aimet("quantization.encoding_analyzer")

    class FusedHistogramObserver(package._HistogramObserver):  # type: ignore[misc,name-defined]
        """Counts float32 on the CPU with the kernel, everything else as AIMET does."""

        @torch.no_grad()
        def observe(self, values: Tensor) -> None:
            """Add a batch to the statistics, as ``collect_stats`` and ``merge_stats`` would."""
            first = self.stats[0].histogram is None
            layout = None
            if (
                values.dtype == torch.float32
                and values.device.type == "cpu"
                and not self.block_size
            ):
                values = dense(values)
                layout = rows_and_channels(values, self.shape)
            if layout is None or (len(self.stats) > 1 and not first):
                self.merge_stats(self.collect_stats(values), values)
            elif not (self._begin(values, layout) if first else self._merge(values)):
                self.merge_stats(self.collect_stats(values), values)

        def _begin(self, x: Tensor, rows: tuple[int, int]) -> bool:
            """Count the first batch, unless it is AIMET's to refuse."""
            low, high = _range(x, rows)
            if not torch.isfinite(high - low).all():
                return False
            same = low == high
            left, right = torch.where(same, low - 0.5, low), torch.where(same, high + 0.5, high)
            step = (right - left) / self.num_bins
            edges = torch.arange(self.num_bins + 1) * step[:, None] + left[:, None]
            first, last = edges[:, 0].contiguous(), edges[:, -1].contiguous()
            counts = count_channels(x, rows, first, last, self.num_bins)
            parts = (part.unbind() for part in (counts, edges, low, high))
            self.stats = [package._Histogram(*part) for part in zip(*parts, strict=True)]
            reach = (last - first) * self.growth_limit / 2
            self._histogram_range_limit = torch.stack((first - reach, last + reach), dim=1)
            return True

        def _merge(self, x: Tensor) -> bool:
            """Count another batch of one channel, unless it is AIMET's to refuse."""
            seen = self.stats[0]
            bounds = torch.stack((seen.min, seen.max, *self._histogram_range_limit[0]))
            counts, edges = seen.histogram.clone(), seen.bin_edges.clone()
            if not bounds.dtype == counts.dtype == edges.dtype == torch.float32:
                return False
            merged = library().merge_histogram(
                x.data_ptr(),
                x.numel(),
                counts.data_ptr(),
                edges.data_ptr(),
                bounds.data_ptr(),
                self.num_bins,
            )
            if merged:
                self.stats = [package._Histogram(counts, edges, bounds[0], bounds[1])]
            return bool(merged)

    return FusedHistogramObserver


@functools.cache
def _searching_type(base: Any) -> Any:
    """An analyzer that minimizes squared error, with the search done by the kernel."""

    class FusedSearch(base):  # type: ignore[misc]
        """Finds the candidate that AIMET finds."""

        def _select_best_candidates(
            self, test_deltas: Tensor, test_offsets: Tensor, stats: list[Any], num_steps: int
        ) -> tuple[Tensor, Tensor]:
            if test_deltas.dtype != torch.float32 or test_deltas.device.type != "cpu":
                return self._select(test_deltas, test_offsets, stats, num_steps)
            scales = test_deltas.flatten(1).contiguous()
            offsets = test_offsets.expand_as(test_deltas).flatten(1).contiguous()
            counts = torch.stack([seen.histogram for seen in stats])
            edges = torch.stack([seen.bin_edges for seen in stats])
            found = torch.empty(len(stats), dtype=torch.int64)
            library().search_grid(
                counts.data_ptr(),
                edges.data_ptr(),
                counts.shape[1],
                scales.data_ptr(),
                offsets.data_ptr(),
                scales.shape[1],
                len(stats),
                num_steps,
                self.gamma,
                found.data_ptr(),
            )
            place = found.clamp(min=0)[:, None]
            scale, offset = scales.gather(1, place), offsets.gather(1, place)
            for index in (found < 0).nonzero().flatten().tolist():
                own = test_offsets if len(test_offsets) == 1 else test_offsets[index : index + 1]
                scale[index : index + 1], offset[index : index + 1] = self._select(
                    test_deltas[index : index + 1], own, stats[index : index + 1], num_steps
                )
            return scale, test_offsets if test_offsets.numel() == 1 else offset

        def _select(self, *given: Any) -> tuple[Tensor, Tensor]:
            selected: tuple[Tensor, Tensor] = super()._select_best_candidates(*given)
            return selected

    return FusedSearch


def _range(x: Tensor, rows: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Smallest and largest finite value of each channel, (channels,)."""
    low, high = (torch.empty(rows[1]) for _ in range(2))
    layout = (*rows, x.numel() // rows[0])
    library().observe_range(x.data_ptr(), low.data_ptr(), high.data_ptr(), *layout)
    return low, high


def count_channels(x: Tensor, rows: tuple[int, int], left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Histogram of each channel between its ``left`` and ``right``, (channels, bins)."""
    counts = torch.empty(rows[1], bins)
    library().observe_histogram(
        x.data_ptr(),
        left.data_ptr(),
        right.data_ptr(),
        counts.data_ptr(),
        bins,
        *rows,
        x.numel() // rows[0],
    )
    return counts
