"""The same image in training and in validation, byte for byte or encoded again."""

from __future__ import annotations

import torch
from torch import Tensor

from bitladder.data.findings.sample import Sample

_ALIKE = 0.9975  # correlation of two small images that are one
_CHUNK = 500  # images at a time


def shared_images(train: Sample, validation: Sample) -> str | None:
    """How many validation images are training images, exactly or nearly; None where none is.

    Two images are nearly the same where their small grey versions correlate by 0.9975 or more: what
    JPEG leaves of one picture does, two pictures of one thing do not. Blank images count as
    neither.
    """
    known = set(train.hashes)
    filled = (validation.deviations > 0).tolist()
    exact = {
        number
        for number, (one, image) in enumerate(zip(validation.hashes, filled, strict=True))
        if image and one in known
    }
    near = set(_near(train.small, validation.small)) - exact
    if not exact and not near:
        return None
    told = [
        text
        for text, found in ((f"{len(exact)} exactly", exact), (f"{len(near)} nearly", near))
        if found
    ]
    first = ", ".join(map(str, sorted(exact | near)[:5]))
    return (
        f"{len(exact | near)} of {validation.count} validation images are training images, "
        f"{' and '.join(told)} (numbers {first}): quality is too good there; take them out of one "
        "split"
    )


def _near(train: Tensor, validation: Tensor) -> list[int]:
    """Numbers of validation images that correlate with a training image."""
    if train.shape[1:] != validation.shape[1:] or not len(train):
        return []
    references, found = _unit(train), []
    for start in range(0, len(validation), _CHUNK):
        best = (_unit(validation[start : start + _CHUNK]) @ references.T).amax(1)
        found += [start + place for place in torch.nonzero(best >= _ALIKE).flatten().tolist()]
    return found


def _unit(images: Tensor) -> Tensor:
    """Flat images without their mean, of length one; blank ones are zero."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, flat / length.clamp(min=1e-3), 0.0)
