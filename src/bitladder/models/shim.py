"""The layer that lets a network for colour images take images of one channel."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class WithShim(nn.Module):
    """A 1x1 convolution from 1 to 3 channels, then the network; both are trained.

    The convolution has no bias and its weights start at one, so that an untrained shim repeats
    the grey image in each channel, as in the original report.

    Args:
        model: a network that takes images of shape (batch, 3, height, width).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.shim = nn.Conv2d(1, 3, kernel_size=1, bias=False)
        nn.init.ones_(self.shim.weight)
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map images of shape (batch, 1, height, width) to the network's output."""
        return cast(Tensor, self.model(self.shim(images)))
