"""What is amiss with a data set, found before anything is trained on it; a file a kind of finding.

Each finding is one line: what, how many, and what to do. Nothing is said where nothing is amiss.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitladder.data.findings.colour import grey_images
from bitladder.data.findings.duplicates import shared_images
from bitladder.data.findings.labels import uneven_labels
from bitladder.data.findings.outliers import far_images
from bitladder.data.findings.sample import Sample, sample
from bitladder.data.splits import ImageData

__all__ = ["Sample", "examine", "sample"]

MOST = 20_000  # images of a split that are looked at


def examine(images: ImageData, most: int = MOST) -> Iterator[str]:
    """The findings on a data set, a line each.

    Args:
        images: the data set.
        most: images of a split that are looked at, the first ones.

    Raises:
        DataError: an image cannot be read.
    """
    train, validation = (
        sample(split, name, most)
        for name, split in (("training", images.train), ("validation", images.validation))
    )
    for found in (
        shared_images(train, validation),
        far_images(train),
        far_images(validation),
        grey_images(train),
        uneven_labels(train, validation),
    ):
        if found:
            yield f"{images.name}: {found}"
