"""The kernel on a GPU: Triton's launches of what ``triton_kernels.py`` computes.

One launch forward and one backward; where a range has many values, a second one adds up what the
first has summed in parts, in an order that never changes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.utils._triton import has_triton

Settings = tuple[Any, ...]
"""What the C++ takes: rows, channels, inner, qmin, qmax, symmetric, minimum scale, floor, ceiling,
threads."""

_BLOCK = 1024  # values that one block of threads has at a time
_PARTS = 512  # of a channel, at most: that many sums a block adds up
_WHOLE = 8  # blocks of values, one after the other, that cost less than a second launch
_WIDE = 1 << 30  # from here on, 32 bits may not count the values


@functools.cache
def is_available() -> bool:
    """Whether Triton can make kernels for the GPU that is here: not for old ones."""
    return bool(has_triton())


def quantize(x: Tensor, low: Tensor, high: Tensor, settings: Settings) -> Tensor:
    """Values on the grid, in the layout of ``x``, a dense float32 tensor."""
    from bitladder.simulation.kernel import triton_kernels

    _, channels, inner, *grid, _ = settings
    y, count = torch.empty_like(x), x.numel()
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        triton_kernels.forward[(-(-count // _BLOCK),)](
            x, y, low, high, count, channels, inner, *map(float, grid),
            ONE=channels == 1, WIDE=count > _WIDE, BLOCK=_BLOCK,
        )  # fmt: skip
    return y


def differentiate(
    x: Tensor, dy: Tensor, low: Tensor, high: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``low`` and ``high`` where ``dy``, laid out like ``x``, is that of y."""
    from bitladder.simulation.kernel import triton_kernels

    _, channels, inner, *grid, _ = settings
    grid = list(map(float, grid))
    count = x.numel()
    length = count // channels
    blocks = -(-length // _BLOCK)
    parts = 1 if blocks <= _WHOLE else min(_PARTS, blocks)
    turns = -(-blocks // parts)
    dx, dlow, dhigh = torch.empty_like(x), torch.empty_like(low), torch.empty_like(high)
    sums = dlow if parts == 1 else torch.empty(channels * parts * 2, device=x.device)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        triton_kernels.backward[(channels, parts)](
            x, dy, dx, low, high, sums, dlow, dhigh, length, channels, inner, parts, turns, *grid,
            WHOLE=parts == 1, WIDE=count > _WIDE, BLOCK=_BLOCK,
        )  # fmt: skip
        if parts > 1:
            triton_kernels.bounds[(channels,)](
                sums, low, high, dlow, dhigh, parts, *grid[:4], BLOCK=_PARTS
            )
    return dx, dlow, dhigh
