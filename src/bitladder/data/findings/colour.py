"""Grey images in a network for colours."""

from __future__ import annotations

from bitladder.data.findings.sample import Sample

_FEW = 0.01  # share of images that may be grey by chance


def grey_images(images: Sample) -> str | None:
    """How many images of three channels are grey; None where few are or there is one channel."""
    grey = int(images.grey.sum())
    if not len(images.grey) or grey <= _FEW * images.count:
        return None
    told = f"{grey} of {images.count} {images.name} images are grey in a network for colours"
    if grey == images.count:
        return f"{told}: read them as one channel, which costs less and loses nothing"
    return f"{told}: is the mixture the one that the network will see?"
