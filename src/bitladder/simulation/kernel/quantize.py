"""Fake quantization by the kernel, on the CPU and on a GPU, trainable in values and ranges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bitladder.simulation.kernel import gpu
from bitladder.simulation.kernel.build import library


def runs_on(device: str) -> bool:
    """Whether the kernel runs on a type of device, ``cpu`` or ``cuda``."""
    return device == "cpu" or (device == "cuda" and gpu.is_available())


def fake_quantize(x: Tensor, low: Tensor, high: Tensor, settings: gpu.Settings) -> Tensor:
    """Values on the grid, in the layout of ``x``, with gradients where they are wanted.

    Args:
        x: dense float32.
        low: smallest value of each range, (channels,).
        high: the largest.
        settings: the layout of ``x`` and the grid.
    """
    if not torch.is_grad_enabled():
        return _quantize(x, low, high, settings)
    y: Tensor = FakeQuantize.apply(x, low, high, settings)
    return y


class FakeQuantize(torch.autograd.Function):
    """Quantize-dequantize of a dense float32 tensor, trainable in its ranges.

    With ``s = (high - low) / (qmax - qmin)`` and ``o = round(low / s) - qmin``, or the middle of
    the grid where it is symmetric, ``y = s (clip(round(x / s) - o, qmin, qmax) + o)``. Gradients
    are straight through (Jain et al. 2020, arXiv 1903.08066); where the offset is at the end of
    its way, the same formulas hold. ``x`` is clipped to a floor and a ceiling first, with the
    gradient of a ReLU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        low: Tensor,
        high: Tensor,
        settings: gpu.Settings,
    ) -> Tensor:
        """Values on the grid, in the layout of ``x``."""
        ctx.settings = settings
        ctx.save_for_backward(x, low, high)
        return _quantize(x, low, high, settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``x`` and of the bounds."""
        x, low, high = ctx.saved_tensors
        [dy] = gradients
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        if not _in_cpp(x):
            return *gpu.differentiate(x, dy, low, high, ctx.settings), None
        dx, dlow, dhigh = torch.empty_like(x), torch.empty_like(low), torch.empty_like(high)
        tensors = (x, dy, dx, low, high, dlow, dhigh)
        library().fake_quantize_backward(*(tensor.data_ptr() for tensor in tensors), *ctx.settings)
        return dx, dlow, dhigh, None


def _in_cpp(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _quantize(x: Tensor, low: Tensor, high: Tensor, settings: gpu.Settings) -> Tensor:
    if not _in_cpp(x):
        return gpu.quantize(x, low, high, settings)
    y = torch.empty_like(x)
    library().fake_quantize_forward(
        x.data_ptr(), y.data_ptr(), low.data_ptr(), high.data_ptr(), *settings
    )
    return y
