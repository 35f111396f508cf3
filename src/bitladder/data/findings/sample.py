"""What findings need of a split's images, from one pass: small grey ones, sums and hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bitladder.data.splits import Split
from bitladder.structures import as_inputs

SIDE = 32  # pixels of a small image
_BATCH = 250
_IMAGE = 4  # dimensions of a batch of images
_COLOURS = 3


@dataclass(frozen=True)
class Sample:
    """The first images of a split; everything is empty where its inputs are no images.

    Attributes:
        name: of the split, as findings call it.
        small: grey and at most ``SIDE`` pixels high and wide, float32 (N, H, W).
        means: of each image's pixels (N,).
        deviations: of each image's pixels (N,).
        grey: whether the channels of an image are the same (N,); empty where there is one.
        hashes: of each image's pixels.
        labels: class of each image (N,), or None where targets are none.
    """

    name: str
    small: Tensor
    means: Tensor
    deviations: Tensor
    grey: Tensor
    hashes: tuple[bytes, ...]
    labels: Tensor | None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.hashes)


def sample(split: Split, name: str, most: int) -> Sample:
    """Look at the first images of a split.

    Args:
        split: its images.
        name: what findings call it.
        most: how many are looked at.

    Raises:
        DataError: an image cannot be read.
    """
    small, means, deviations, grey, labels = [], [], [], [], []
    hashes: list[bytes] = []
    for inputs, target in split.batches(_BATCH):
        pixels = as_inputs(inputs)[0]
        if pixels.dim() != _IMAGE or not pixels.dtype.is_floating_point:
            break
        pixels = _raw(pixels, split)[: most - len(hashes)].detach().cpu()
        hashes += [_hash(one) for one in pixels]
        means.append(pixels.mean((1, 2, 3)))
        deviations.append(pixels.flatten(1).std(1, correction=0))
        if pixels.shape[1] == _COLOURS:
            spread = (pixels.amax(1) - pixels.amin(1)).flatten(1).amax(1)
            grey.append(spread <= _step(pixels))
        small.append(_small(pixels.mean(1, keepdim=True)))
        if isinstance(target, Tensor) and target.dim() == 1 and not target.dtype.is_floating_point:
            labels.append(target[: len(pixels)].cpu())
        if len(hashes) >= most:
            break
    every = len(labels) == len(small)
    return Sample(
        name,
        torch.cat(small) if small else torch.empty(0, SIDE, SIDE),
        torch.cat(means) if means else torch.empty(0),
        torch.cat(deviations) if deviations else torch.empty(0),
        torch.cat(grey) if grey else torch.empty(0, dtype=torch.bool),
        tuple(hashes),
        torch.cat(labels) if labels and every else None,
    )


def _raw(pixels: Tensor, split: Split) -> Tensor:
    """The pixels before normalization, where the split says which it has."""
    normalization = getattr(split, "normalization", None)
    if normalization is None:
        return pixels
    mean, deviation = normalization
    raw: Tensor = pixels * deviation + mean
    return raw


def _step(pixels: Tensor) -> float:
    """Half a level of 8 bits, in the range of the pixels."""
    return 0.5 / 255 * max(1.0, float(pixels.abs().max()))


def _hash(image: Tensor) -> bytes:
    levels = (255 * image).round().to(torch.int32)  # what normalization has rounded stays the same
    return hashlib.sha256(levels.numpy().tobytes()).digest()[:16]


def _small(grey: Tensor) -> Tensor:
    height, width = (min(SIDE, length) for length in grey.shape[2:])
    return interpolate(grey, (height, width), mode="area")[:, 0]
