"""The kernel's formulas in PyTorch's operations, which ``torch.compile`` fuses: Triton on a GPU.

A tensor is read as (rows / channels, channels, inner) in the order of its memory, and what tells
one grid from another is in tensors, so that a few compiled functions serve every shape, width and
activation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._triton import has_triton

from bitladder.simulation.kernel.layout import in_memory_order, laid_out_like

Settings = tuple[Any, ...]
"""What the C++ takes: rows, channels, inner, qmin, qmax, symmetric, minimum scale, floor, ceiling,
threads."""


def quantize(x: Tensor, low: Tensor, high: Tensor, settings: Settings) -> Tensor:
    """Values on the grid, in the layout of ``x``, a dense float32 tensor."""
    run = _compiled(_quantize)
    return laid_out_like(x, run(*_arguments(x, low, high, settings)))


def differentiate(
    x: Tensor, dy: Tensor, low: Tensor, high: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``low`` and ``high`` where ``dy``, laid out like ``x``, is that of y."""
    read, *rest = _arguments(x, low, high, settings)
    run = _compiled(_differentiate)
    dx, dlow, dhigh = run(read, _read(dy, read.shape), *rest)
    return laid_out_like(x, dx), dlow.view(low.shape), dhigh.view(high.shape)


@functools.cache
def is_available() -> bool:
    """Whether ``torch.compile`` can make kernels for the GPU that is here: not for old ones."""
    return bool(has_triton())


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True, fullgraph=True)


def _arguments(x: Tensor, low: Tensor, high: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    rows, channels, inner, *grid, _ = settings
    read = _read(x, (rows // channels, channels, inner))
    bounds = (_read(bound, (channels, 1)) for bound in (low, high))
    return (read, *bounds, _constants(tuple(map(float, grid)), x.device))


def _read(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The values of ``x`` as they lie in memory; no view, of whose base the compiler would ask."""
    return in_memory_order(x).view(shape).data


@functools.cache
def _constants(grid: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(grid, device=device)


def _grid(low: Tensor, high: Tensor, constants: Tensor) -> tuple[Tensor, ...]:
    """Scale, offset, and whether the bounds of the range reach each of them."""
    qmin, qmax, symmetric, minimum, *_ = constants.unbind()
    wanted = ((high - low) / (qmax - qmin)).abs()
    scale = torch.maximum(wanted, minimum)
    free = torch.round(low / scale) - qmin
    kept = torch.minimum(torch.maximum(free, -qmax), -qmin)
    centered = symmetric != 0
    offset = torch.where(centered, -torch.round((qmin + qmax) / 2), kept)
    return scale, offset, wanted >= minimum, (free == kept) & ~centered


def _quantize(x: Tensor, low: Tensor, high: Tensor, constants: Tensor) -> Tensor:
    scale, offset, _, _ = _grid(low, high, constants)
    qmin, qmax, _, _, floor, ceiling = constants.unbind()
    clipped = torch.minimum(torch.maximum(x, floor), ceiling)
    q = torch.round(clipped / scale) - offset
    return (torch.minimum(torch.maximum(q, qmin), qmax) + offset) * scale


def _differentiate(
    x: Tensor, dy: Tensor, low: Tensor, high: Tensor, constants: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    scale, offset, scale_moves, offset_moves = _grid(low, high, constants)
    qmin, qmax, _, _, floor, ceiling = constants.unbind()
    u = torch.minimum(torch.maximum(x, floor), ceiling) / scale
    rounded = torch.round(u)
    q = rounded - offset
    kept = torch.minimum(torch.maximum(q, qmin), qmax)
    inside = q == kept
    through = torch.where(inside, dy, 0.0)
    dx = torch.where((x > floor) & (x < ceiling), through, 0.0)
    by_scale = (dy * torch.where(inside, rounded - u, kept + offset)).sum((0, 2))[:, None]
    by_offset = (dy - through).sum((0, 2))[:, None]
    moved = torch.where(offset_moves, by_offset, 0.0)  # times the scale, over the scale
    by = torch.where(scale_moves, by_scale - moved * low / scale, 0.0)
    by = torch.sign(high - low) * by / (qmax - qmin)
    return dx, moved - by, by
