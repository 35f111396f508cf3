"""Small pictures of single images of a split, for people."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from bitladder.data.splits import FileSplit, Split, TensorSplit, picked
from bitladder.structures import as_inputs

_BATCH = 64
_COLOURS = 3
_QUALITY = 70  # of JPEG


def pictures(split: Split, wanted: Sequence[int], side: int) -> dict[int, bytes]:
    """JPEG files of images, by their numbers in the split; those that are no pictures are left out.

    Args:
        split: its images in order.
        wanted: numbers of images.
        side: most pixels of height and width.

    Raises:
        DataError: an image cannot be read.
    """
    found = {}
    for number, image in _images(split, sorted(set(wanted))):
        picture = _picture(image, getattr(split, "normalization", None), side)
        if picture is not None:
            found[number] = picture
    return found


def _images(split: Split, wanted: list[int]) -> Iterator[tuple[int, Tensor]]:
    """Each wanted number with the first input of its image."""
    index = torch.tensor(wanted, dtype=torch.int64)
    numbers, chosen = list(range(split.images)), split
    if isinstance(split, FileSplit):  # decodes no others
        targets = picked(split.targets, index)
        files = [split.files[number] for number in wanted]
        numbers, chosen = wanted, replace(split, files=files, targets=targets, workers=0)
    elif isinstance(split, TensorSplit):
        yield from zip(wanted, split.float_images(index), strict=True)
        return
    at, left = 0, set(wanted)
    for inputs, _ in chosen.batches(_BATCH):
        first = as_inputs(inputs)[0]
        for image in first:
            if numbers[at] in left:
                yield numbers[at], image
                left.discard(numbers[at])
            at += 1
        if not left:
            return


def _picture(image: Tensor, normalization: tuple[Tensor, Tensor] | None, side: int) -> bytes | None:
    if image.dim() != 3 or image.shape[0] not in (1, _COLOURS):
        return None
    shown = image.detach().float().cpu()
    if normalization is not None:
        mean, deviation = normalization
        shown = shown * deviation + mean
    if shown.min() < -0.01 or shown.max() > 1.01:
        low, high = shown.min(), shown.max()
        shown = (shown - low) / (high - low).clamp(min=1e-12)
    values = (255 * shown.clamp(0, 1)).round().to(torch.uint8)
    grey = image.shape[0] == 1 or bool((values == values[:1]).all())
    picture = Image.fromarray(values[0].numpy() if grey else values.permute(1, 2, 0).numpy())
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
