"""Images that are far from the rest: blank ones, and those of another brightness or contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from bitladder.data.findings.sample import Sample

_FAR = 12.0  # robust deviations from the median
_MAD = 1.4826  # of a normal distribution: deviation for median absolute deviation
_LEAST = 1 / 255  # below which a deviation is rounding
_FEWEST = 20  # images of which something can be said
_MANY = 0.05  # of the images: so many are a group of their own, such as a class, and no outliers


def far_images(images: Sample) -> str | None:
    """Which images are blank or more than 12 robust deviations off; None where there are none.

    The robust deviation is 1.4826 median absolute deviations (Rousseeuw and Croux 1993).
    """
    if images.count < _FEWEST:
        return None
    blank = images.deviations <= 0
    far = (_distance(images.means) > _FAR) | (_distance(images.deviations) > _FAR)
    if float(far.double().mean()) > _MANY:
        far = torch.zeros_like(far)
    found = torch.nonzero(blank | far).flatten().tolist()
    if not found:
        return None
    blanks = int(blank.sum())
    what = f"{blanks} of them blank" if blanks else "in brightness or contrast"
    return (
        f"{len(found)} of {images.count} {images.name} images are far from the rest, {what} "
        f"(numbers {', '.join(map(str, found[:5]))}): look at them; one of them widens the ranges "
        "of activations"
    )


def _distance(values: Tensor) -> Tensor:
    off = (values - values.median()).abs()
    return off / (_MAD * off.median()).clamp(min=_LEAST)
