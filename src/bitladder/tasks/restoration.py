"""Image to image: denoising, super-resolution, deblurring; images of 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import l1_loss
from torchvision import tv_tensors

from bitladder.errors import DataError, ModelError
from bitladder.structures import Outputs
from bitladder.tasks.scores import ScoreMeter
from bitladder.tasks.targets import kind
from bitladder.tasks.task import Task

_SMALLEST = 1e-10  # mean squared error: an image without any has 100 dB
_STEP = 1 / 255


class Restoration(Task):
    """See ``Task``. The quality is the mean PSNR of the images, in dB.

    A network returns one image (N, C, H, W). A target is the image (C, H, W) that is wanted.
    """

    name = "restoration"
    quality = "PSNR"

    def check(
        self, outputs: Outputs, target: Any | None = None, *, classes: int | None = None
    ) -> None:
        """See ``Task.check``."""
        found = _image(outputs)
        if target is not None:
            _fitting(target, found)

    def target(self, value: Any, where: str) -> Tensor:
        """A float32 image (C, H, W)."""
        image = torch.as_tensor(value) if isinstance(value, Tensor | np.ndarray) else value
        if not isinstance(image, Tensor) or image.dim() != 3 or not image.is_floating_point():
            given = (
                f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
                if isinstance(image, Tensor)
                else kind(image)
            )
            raise DataError(
                f"{where}: the wanted image must be a float tensor (C, H, W) of 0 to 1, not {given}"
            )
        return image.float()

    def movable(self, target: Tensor, size: tuple[int, int]) -> Tensor:
        """See ``Task.movable``."""
        if tuple(target.shape[1:]) != size:
            raise DataError(
                f"a wanted image of {target.shape[1]}x{target.shape[2]} does not move with one of "
                f"{size[0]}x{size[1]}"
            )
        image: Tensor = tv_tensors.Image(target)
        return image

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """Mean absolute error (Lim 2017, EDSR, arXiv 1707.02921, section 4.3)."""
        found = _image(outputs)
        return l1_loss(found, _fitting(target, found))

    def distill(self, outputs: Outputs, teacher: Outputs) -> Tensor:
        """Mean absolute error against the teacher's image."""
        return l1_loss(_image(outputs), _image(teacher))

    def meter(self) -> ScoreMeter:
        """Peak signal-to-noise ratio of each image, ``-10 log10(mse)`` with a peak of 1."""
        return ScoreMeter("PSNR", _psnr, unit="dB")

    def agreement(self, outputs: Outputs, reference: Outputs) -> Tensor:
        """The share of the values that differ by at most one step of 8 bits."""
        near = (_image(outputs) - _image(reference)).abs() <= _STEP
        return near.flatten(1).double().mean(1)


def _psnr(outputs: Outputs, target: Any) -> Tensor:
    found = _image(outputs)
    error = (found.double() - _fitting(target, found)).square().flatten(1).mean(1)
    return -10 * error.clamp(min=_SMALLEST).log10()


def _fitting(target: Any, image: Tensor) -> Tensor:
    if not isinstance(target, Tensor) or target.shape != image.shape:
        given = tuple(target.shape) if isinstance(target, Tensor) else kind(target)
        raise DataError(f"wanted images: {given} for images {tuple(image.shape)} of the network")
    return target.to(image)


def _image(outputs: Outputs) -> Tensor:
    """The one output, images (N, C, H, W).

    Raises:
        ModelError: there are others.
    """
    if len(outputs) == 1:
        [image] = outputs.values()
        if image.dim() == 4:
            return image
    returned = ", ".join(f"{name} {tuple(one.shape)}" for name, one in outputs.items())
    raise ModelError(f"returns {returned or 'no tensor'}, not one image (N, C, H, W)")
