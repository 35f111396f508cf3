"""The kernel in place of the forward of AIMET's quantizers; encodings and gradients are AIMET's."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet.names import aimet
from bitladder.simulation.kernel import (
    KernelUnavailableError,
    fake_quantize,
    library,
    runs_on,
)
from bitladder.simulation.kernel.layout import dense, rows_and_channels


def accelerate(quantizer: nn.Module) -> None:
    """Have one of AIMET's quantizers run the kernel wherever it applies; nothing else changes.

    Without the kernel the quantizer is left as it is.
    """
    try:
        library()
    except KernelUnavailableError:
        return
    if type(quantizer) is aimet().QuantizeDequantize:
        quantizer.__class__ = _fused_type()


def is_accelerated(quantizer: nn.Module) -> bool:
    """Whether a quantizer runs the kernel."""
    return hasattr(quantizer, "clip_and_quantize")


@functools.cache
def _fused_type() -> Any:
    """AIMET's quantizer with another forward, defined when AIMET is first needed."""
    names: Any = aimet()
    minimum_scale = functools.cache(names._get_minimum_scale)

    class FusedQuantizeDequantize(names.QuantizeDequantize):  # type: ignore[misc]
        """Runs the kernel on float32 on the CPU and on CUDA, AIMET's path on everything else."""

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            if type(input) not in (Tensor, nn.Parameter):
                input = input.as_subclass(Tensor)  # noqa: A001
            y: Tensor | None = self.clip_and_quantize(input)
            return super().forward(input) if y is None else y

        def clip_and_quantize(
            self, x: Tensor, floor: float = -math.inf, ceiling: float = math.inf
        ) -> Tensor | None:
            """Quantize ``clip(x, floor, ceiling)``, or return None where the kernel cannot."""
            low, high = self._parameters.get("min"), self._parameters.get("max")
            if (
                low is None
                or high is None
                or not (x.dtype == low.dtype == torch.float32)
                or x.device != low.device
                or not runs_on(x.device.type)
                or self.block_size is not None
                or self.zero_point_shift
                or not self.is_initialized()
                or not x.numel()
                or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
                or torch.onnx.is_in_onnx_export()
            ):
                return None
            x = dense(x)
            rows = rows_and_channels(x, self.shape)
            if rows is None:
                return None
            qmin, qmax = self.qmin, self.qmax
            grid = (qmin, qmax, int(self._symmetric), minimum_scale(qmax - qmin), floor, ceiling)
            settings = (*rows, x.numel() // rows[0], *grid, torch.get_num_threads())
            return fake_quantize(x, low, high, settings)

        @contextmanager
        def _compute_encodings(self, passthrough: bool = False) -> Iterator[None]:
            """AIMET's own, but that no range is computed of every single batch, to be dropped."""
            analyzer = self.encoding_analyzer
            observe = getattr(analyzer.observer, "observe", analyzer.update_stats)

            one, zero = torch.ones(self.shape), torch.zeros(self.shape)
            mark = names.AffineEncoding(
                one, zero, self.qmin, self.qmax, self._symmetric, self.block_size, producer=self
            )

            def watch(x: Tensor) -> Tensor:
                x = x.as_subclass(Tensor)
                if not x.numel():
                    return x
                observe(x.detach())
                seen: Any = x.view_as(x)
                seen.encoding = mark  # the layer that reads it asks whose range its input has
                return seen  # type: ignore[no-any-return]

            with super()._compute_encodings(passthrough):
                if passthrough and "forward" in self.__dict__:
                    self.__dict__["forward"] = watch
                yield

        def get_scale(self, dtype: torch.dtype | None = None) -> Tensor | None:
            """AIMET's, divided on a GPU too: PyTorch multiplies there by a number's inverse.

            The grid that a file gets would otherwise be another one, by the last bit.
            """
            low, high = self._parameters.get("min"), self._parameters.get("max")
            if low is None or high is None or not low.is_cuda or not self.is_initialized():
                own: Tensor | None = super().get_scale(dtype)
                return own
            steps = self.qmax - self.qmin
            kind = dtype or torch.float32
            low, high = low.to(kind), high.to(kind)
            scale: Tensor = (high - low) / torch.full_like(low, steps)
            return scale.abs().clamp(min=minimum_scale(steps))

        def is_initialized(self) -> bool:
            """AIMET's answer, without its walk over submodules."""
            return all(
                value is None or self._is_initialized(name, value)
                for name, value in self._parameters.items()
            )

    return FusedQuantizeDequantize
