"""The kernel in place of what AIMET counts of a batch; the statistics are AIMET's, to the bit."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from bitladder.simulation.aimet.names import aimet
from bitladder.simulation.kernel.build import library
from bitladder.simulation.kernel.layout import dense, in_memory_order, rows_and_channels


def accelerate_observer(observer: Any) -> None:
    """Have one of AIMET's observers see batches with the kernel; nothing else changes."""
    names: Any = aimet()
    if type(observer) is names._HistogramObserver:
        observer.__class__ = _histogram_type()
    elif type(observer) is names._MinMaxObserver:
        observer.__class__ = _min_max_type()


@functools.cache
def _min_max_type() -> Any:
    """AIMET's observer of the smallest and largest value, defined when AIMET is first needed."""
    names: Any = aimet()

    class FusedMinMaxObserver(names._MinMaxObserver):  # type: ignore[misc]
        """Finds both in one pass over memory where they are one number each."""

        @torch.no_grad()
        def observe(self, values: Tensor) -> None:
            """Add a batch to the statistics, as ``collect_stats`` and ``merge_stats`` would."""
            if self.block_size or any(length > 1 for length in self.shape):
                self.merge_stats(self.collect_stats(values))
                return
            low, high = torch.aminmax(in_memory_order(dense(values)))
            self.merge_stats(names._MinMaxRange(low.view(self.shape), high.view(self.shape)))

    return FusedMinMaxObserver


@functools.cache
def _histogram_type() -> Any:
    """AIMET's histogram observer with a faster way in, defined when AIMET is first needed."""
    names: Any = aimet()

    class FusedHistogramObserver(names._HistogramObserver):  # type: ignore[misc]
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
            add = self._begin if first else self._merge
            if not first and len(self.stats) > 1:
                layout = None  # later batches are counted for one channel alone
            if layout is None or not add(values, layout):
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
            self.stats = [names._Histogram(*part) for part in zip(*parts, strict=True)]
            reach = (last - first) * self.growth_limit / 2
            self._histogram_range_limit = torch.stack((first - reach, last + reach), dim=1)
            return True

        def _merge(self, x: Tensor, rows: tuple[int, int]) -> bool:
            """Count another batch, of one channel, unless it is AIMET's to refuse."""
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
                self.stats = [names._Histogram(counts, edges, bounds[0], bounds[1])]
            return bool(merged)

    return FusedHistogramObserver


def _range(x: Tensor, rows: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Smallest and largest finite value of each channel, (channels,)."""
    low, high = (torch.empty(rows[1]) for _ in range(2))
    layout = (*rows, x.numel() // rows[0])
    library().observe_range(x.data_ptr(), low.data_ptr(), high.data_ptr(), *layout)
    return low, high


def count_channels(
    x: Tensor, rows: tuple[int, int], left: Tensor, right: Tensor, bins: int
) -> Tensor:
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
