"""How the kernel reads a tensor in memory: as rows, each of one channel."""

from __future__ import annotations

import torch
from torch import Tensor


def dense(x: Tensor) -> Tensor:
    """``x``, or a copy in the memory format nearest to its own."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    last = x.dim() == 4 and x.stride(1) == 1
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def in_memory_order(x: Tensor) -> Tensor:
    """The values of a dense tensor, as a flat view."""
    return (x if x.is_contiguous() else x.permute(0, 2, 3, 1)).view(-1)


def rows_and_channels(x: Tensor, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(rows, channels) of a dense tensor for ranges of ``shape``, or None for another layout."""
    axes = [axis for axis, length in enumerate(shape) if length > 1]
    if not axes:
        return 1, 1
    if len(axes) > 1 or len(shape) != x.dim():
        return None
    [axis] = axes
    channels = x.shape[axis]
    if shape[axis] != channels:
        return None
    if axis == 0:  # the outermost in memory, channels last or not
        return channels, channels
    if axis == 1 and x.is_contiguous():
        return x.shape[0] * channels, channels
    return None
