"""How large a network is: as float32, as packed integers, and as the file that was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bitladder.simulation import SimulatedModel
from bitladder.simulation.aimet import range_parameters

_FLOAT_BITS = 32
_BIAS_BITS = 32


@dataclass(frozen=True)
class Sizes:
    """Bytes of a network's parameters and of its artifact.

    Attributes:
        float_bytes: every parameter as float32.
        packed_bytes: quantized weights at their own width with nothing lost to containers, a
            float32 scale a range, and everything else as 32 bit.
        file_bytes: what the artifact takes on disk.
    """

    float_bytes: int
    packed_bytes: int
    file_bytes: int


def sizes(simulated: SimulatedModel, artifact: Path) -> Sizes:
    """Measure a simulated network and the artifact that was written from it."""
    widths = {
        f"{info.layer}.{info.parameter}": (info.bits, info.channels)
        for info, _ in simulated.quantizers()
        if info.parameter is not None
    }
    ranges = range_parameters(simulated.module)
    bits = elements = 0
    for name, parameter in simulated.module.named_parameters():
        if name in ranges:  # a learned range is no weight
            continue
        elements += parameter.numel()
        width, scales = widths.get(name, (_BIAS_BITS, 0))
        bits += parameter.numel() * width + scales * torch.finfo(torch.float32).bits
    return Sizes(elements * _FLOAT_BITS // 8, -(-bits // 8), artifact.stat().st_size)
