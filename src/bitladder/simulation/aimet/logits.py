"""What many ranges of the logits cost, computed at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bitladder.simulation.aimet.fused_quantizer import is_accelerated
from bitladder.simulation.aimet.names import aimet
from bitladder.simulation.kernel.build import library


def cross_entropies(
    quantizer: Any, logits: Tensor, wanted: Tensor, low: Tensor, high: Tensor
) -> Tensor | None:
    """Cross-entropy between wanted shares and the softmax of quantized logits, for each range.

    Args:
        quantizer: per tensor; its range does not count.
        logits: (N, classes), on any device.
        wanted: shares that sum to one, (N, classes).
        low: lower ends of the ranges, (candidates,).
        high: upper ends.

    Returns:
        Nats in float64, (candidates,), on the CPU; None where the kernel does not run.
    """
    tensors = [tensor.cpu().contiguous() for tensor in (logits, wanted, low, high)]
    if (
        not is_accelerated(quantizer)
        or quantizer.zero_point_shift
        or logits.dim() != 2
        or any(tensor.dtype != torch.float32 for tensor in tensors)
        or not torch.isfinite(logits).all()
    ):
        return None
    qmin, qmax = quantizer.qmin, quantizer.qmax
    least = aimet()._get_minimum_scale(qmax - qmin)
    found = torch.empty(len(low), dtype=torch.float64)
    library().cross_entropies(
        *(tensor.data_ptr() for tensor in tensors),
        *logits.shape,
        len(low),
        qmin,
        qmax,
        int(quantizer.symmetric),
        least,
        found.data_ptr(),
    )
    return found
