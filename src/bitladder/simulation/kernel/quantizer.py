"""The kernel in place of the forward of AIMET's quantizers; encodings and gradients are AIMET's."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet import aimet
from bitladder.simulation.kernel.build import KernelUnavailableError, library


def accelerate(quantizer: nn.Module) -> None:
    """Have one of AIMET's quantizers run the kernel wherever it applies; nothing else changes.

    Without the kernel the quantizer is left as it is.
    """
    try:
        library()
    except KernelUnavailableError:
        return
    if type(quantizer) is aimet("quantization.affine.quantizer").QuantizeDequantize:
        quantizer.__class__ = _fused_type()


class FakeQuantize(torch.autograd.Function):
    """Quantize-dequantize of a dense float32 tensor on the CPU, trainable in its ranges.

    With ``s = (high - low) / (qmax - qmin)`` and ``o = round(low / s) - qmin``, or the middle of
    the grid where it is symmetric, ``y = s (clip(round(x / s) - o, qmin, qmax) + o)``. Gradients
    are straight through (Jain et al. 2020, arXiv 1903.08066); where the offset is at the end of
    its way, the same formulas hold.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        low: Tensor,
        high: Tensor,
        rows: int,
        channels: int,
        grid: tuple[Any, ...],
    ) -> Tensor:
        """Values on the grid, in the layout of ``x``."""
        y = torch.empty_like(x)
        layout = (rows, channels, x.numel() // rows, *grid, torch.get_num_threads())
        library().fake_quantize_forward(
            x.data_ptr(), y.data_ptr(), low.data_ptr(), high.data_ptr(), *layout
        )
        ctx.layout = layout
        ctx.save_for_backward(x, low, high)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``x`` and of the bounds."""
        x, low, high = ctx.saved_tensors
        [dy] = gradients
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        dx, dlow, dhigh = torch.empty_like(x), torch.empty_like(low), torch.empty_like(high)
        tensors = (x, dy, dx, low, high, dlow, dhigh)
        library().fake_quantize_backward(*(tensor.data_ptr() for tensor in tensors), *ctx.layout)
        return dx, dlow, dhigh, None, None, None


def _rows(x: Tensor, shape: tuple[int, ...]) -> tuple[int, int] | None:
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


@functools.cache
def _fused_type() -> Any:
    """AIMET's quantizer with another forward, defined when AIMET is first needed."""
    package = aimet("quantization.affine.quantizer")

    class FusedQuantizeDequantize(package.QuantizeDequantize):  # type: ignore[misc,name-defined]
        """Runs the kernel on float32 on the CPU, AIMET's own path on everything else."""

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            if type(input) is not Tensor:
                input = input.as_subclass(Tensor)  # noqa: A001
            low, high = self._parameters.get("min"), self._parameters.get("max")
            usable = (
                low is not None
                and high is not None
                and self.is_initialized()
                and self.block_size is None
                and not self.zero_point_shift
                and input.dtype == low.dtype == torch.float32
                and input.device.type == low.device.type == "cpu"
                and input.numel() > 0
                and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
                and not torch.onnx.is_in_onnx_export()
            )
            if not usable:
                return super().forward(input)  # type: ignore[no-any-return]
            dense = input.is_contiguous() or input.is_contiguous(memory_format=torch.channels_last)
            x = input if dense else input.contiguous()
            rows = _rows(x, self.shape)
            if rows is None:
                return super().forward(input)  # type: ignore[no-any-return]
            steps = self.qmax - self.qmin
            grid = (self.qmin, self.qmax, int(self.symmetric), package._get_minimum_scale(steps))
            y: Tensor = FakeQuantize.apply(x, low, high, *rows, grid)
            return y

    return FusedQuantizeDequantize
