"""How large a network is: parameters, megabytes and multiply-accumulates for one image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Summary:
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


def summarize(name: str, model: nn.Module, shape: tuple[int, int, int]) -> Summary:
    """Count a network's parameters, and its multiply-accumulates by running it on one image.

    Args:
        name: what to call it.
        model: the network; left in the mode it was in.
        shape: channels, height and width of one image.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    like = next(model.parameters(), torch.empty(0))
    image = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), counter:
        model(image)
    # PyTorch counts a multiply and an add as two.
    return Summary(name, parameters, parameters * 4 / 1e6, counter.get_total_flops() // 2)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and each of its modules back in its own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
