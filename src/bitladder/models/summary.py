"""How large a network is: parameters, megabytes and multiply-accumulates for one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bitladder.models.size import NetworkSize


def summarize(name: str, model: nn.Module, shapes: Sequence[tuple[int, ...]]) -> NetworkSize:
    """Count a network's parameters, and its multiply-accumulates by running it on one image.

    Args:
        name: what to call it.
        model: the network; left in the mode it was in.
        shapes: of one image, for each input, such as ((channels, height, width),).
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    like = next(model.parameters(), torch.empty(0))
    inputs = [torch.zeros(1, *shape, device=like.device, dtype=like.dtype) for shape in shapes]
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), counter:
        model(*inputs)
    # PyTorch counts a multiply and an add as two.
    return NetworkSize(name, parameters, parameters * 4 / 1e6, counter.get_total_flops() // 2)


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
