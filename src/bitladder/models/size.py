"""How large a network is; free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSize:
    """The size of one network at one input shape.

    Attributes:
        name: the name it was built by.
        parameters: trained values, the shim's included; batch norm statistics are not counted.
        size_mb: the parameters as float32, in 10^6 bytes.
        macs: multiply-accumulates of its convolutions and matrix products for one image.
    """

    name: str
    parameters: int
    size_mb: float
    macs: int
