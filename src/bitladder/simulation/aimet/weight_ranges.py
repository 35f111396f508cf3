"""Ranges of weights, all channels at once; the ranges are AIMET's, to the bit."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.simulation.aimet.fused_analyzer import range_of_channels
from bitladder.simulation.aimet.fused_quantizer import is_accelerated
from bitladder.simulation.aimet.names import aimet
from bitladder.simulation.kernel.build import library
from bitladder.simulation.kernel.layout import rows_and_channels

_TINY = 1e-12  # AIMET takes smaller weights for zero
_MOST_LEVELS = 255  # above, all steps are more work than the few that AIMET tries


@torch.no_grad()
def set_weight_range(quantizer: Any, weight: nn.Parameter) -> bool:
    """Set a quantizer's range as AIMET would from weights, where the kernel can.

    AIMET first asks whether the weights already lie on a grid, and takes its analyzer's range where
    they do not. All steps of a grid are tried here, and given up at the first weights that are off.

    Returns:
        Whether the range is set; it is AIMET's to set otherwise, as that of weights which may lie
        on a grid.
    """
    if (
        not is_accelerated(quantizer)
        or not (quantizer.is_overwrite_allowed("min") and quantizer.is_overwrite_allowed("max"))
        or quantizer.block_size is not None
        or quantizer.zero_point_shift
        or not (weight.dtype == quantizer.min.dtype == torch.float32)
        or weight.device != quantizer.min.device
        or not weight.numel()
    ):
        return False
    x = weight.detach().cpu().contiguous()  # of any device the same range, and soon there
    layout = rows_and_channels(x, quantizer.shape)
    if layout is None or layout[0] != layout[1]:  # a channel in several pieces
        return False
    low, high = (torch.empty(layout[1]) for _ in range(2))
    bits = ctypes.c_uint32()
    odd = library().describe_weights(
        x.data_ptr(), low.data_ptr(), high.data_ptr(), ctypes.addressof(bits), *_sizes(x, low)
    )
    if odd or _may_fit(quantizer, x, low, bits.value):
        return False
    steps = quantizer.qmax - quantizer.qmin
    found = range_of_channels(quantizer.encoding_analyzer, x, low, high, steps, quantizer.symmetric)
    if found is None:
        return False
    quantizer.set_range(*(bound.to(weight.device) for bound in found))
    return True


def _sizes(x: Tensor, low: Tensor) -> tuple[int, int]:
    return low.numel(), x.numel() // low.numel()


def _may_fit(quantizer: Any, x: Tensor, low: Tensor, bits: int) -> bool:
    """Whether AIMET may find that weights lie on a grid already; it asks of symmetric ones only."""
    qmin, qmax = quantizer.qmin, quantizer.qmax
    if not quantizer.symmetric or math.ceil((qmin + qmax) / 2) != 0:
        return False
    levels = max(abs(qmin), abs(qmax))
    if levels > _MOST_LEVELS:
        return True
    names = aimet()
    channels, inner = _sizes(x, low)
    fitting: int = library().count_on_grid(
        x.data_ptr(),
        channels,
        inner,
        levels,
        names._ULP_SAFETY * _rounding(names, bits),
        _TINY,
        names._ABS_OFFGRID_CEIL,
    )
    return bool(fitting / channels >= names._MIN_MATCHED_FRAC)


def _rounding(names: Any, bits: int) -> float:
    """Relative rounding of the format that values were stored in, from all bits that they set."""
    rounding: float = names._ULP_REL_FP32
    if bits & 0x7FFFFFFF and not bits & 0xFFFF:
        rounding = names._ULP_REL_BF16
    elif bits & 0x7FFFFFFF and not bits & 0x1FFF:
        rounding = names._ULP_REL_FP16
    return rounding
