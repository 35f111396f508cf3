"""Images without targets, at the size that a network takes: what calibration needs, and no more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bitladder.data import decode
from bitladder.data.folders import SPLITS, image_files, told
from bitladder.data.loading import calibration_images, load
from bitladder.data_names import DATASETS, folder_of
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.structures import as_inputs

_SEED = 1
_NAMED = 20  # bad images in a message
_SMALLEST, _LARGEST = 8, 1024  # sides of the images that a data set is read at


def images_without_targets(
    name: str, channels: int, height: int, width: int, limit: int, root: Path | None = None
) -> Tensor:
    """The first images of a shuffled data set or folder, with pixels in 0 to 1.

    Of a folder every image below it is taken, whatever the folders in it mean; where one of them
    holds the training images, those of that one, so that no evaluation image is calibrated on.

    Args:
        name: a data set's name, a folder of images, or ``package.module:function``.
        channels: 1 for grey images or 3 for colours; images of the other kind are converted.
        height: in pixels; an image is resized until it covers the size, and its middle is cut out.
        width: in pixels.
        limit: images at most.
        root: the folder that is searched first for data sets.

    Returns:
        Float32 (N, channels, height, width).

    Raises:
        DataError: there are no images, or some cannot be decoded: they are named.
    """
    folder = folder_of(name)
    if name not in DATASETS and folder.is_dir() and not any(folder.glob("*-idx3-ubyte*")):
        return _of_folder(folder, channels, height, width, limit)
    fits = all(_SMALLEST <= side <= _LARGEST for side in (height, width))
    options = DatasetOptions(name=name, size=(height, width) if fits else None)
    images = as_inputs(
        calibration_images(load(options, LoaderOptions(root=root), seed=_SEED), limit)
    )[0]
    if images.dim() != 4 or not len(images):
        raise DataError(f"{name}: holds no images to calibrate on")
    if images.shape[2:] != (height, width):
        images = interpolate(images, (height, width), mode="bilinear", antialias=True)
    return _coloured(images, channels, name)


def standardized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(images - mean) / std``, with a number for all channels or one each.

    Raises:
        DataError: there are other numbers of them, or a deviation is not positive.
    """
    channels = images.shape[1]
    for what, given in (("mean", mean), ("std", std)):
        if len(given) not in (1, channels) or not np.isfinite(given).all():
            raise DataError(f"--{what}: give one finite number, or {channels} of them with commas")
    if min(std) <= 0:
        raise DataError("--std: must be positive")
    shift, scale = (torch.tensor(given).reshape(1, -1, 1, 1) for given in (mean, std))
    return (images - shift) / scale


def _of_folder(folder: Path, channels: int, height: int, width: int, limit: int) -> Tensor:
    inner = [one for one in sorted(folder.iterdir()) if one.name.lower() in SPLITS["train"]]
    files = image_files(inner[0] if inner else folder)
    if not files:
        raise DataError(f"{folder}: holds no images with a known suffix, such as .jpg or .png")
    random.Random(_SEED).shuffle(files)
    found, bad = [], []
    for file in files[:limit]:
        try:
            found.append(_decoded(file, channels, height, width))
        except Exception as error:  # Pillow's plugins raise whatever they stumble over
            bad.append(f"{told(file.relative_to(folder))}: {decode.why(error)}")
    if bad:
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{told(folder)}: {len(bad)} of {len(files[:limit])} images cannot be decoded; replace "
            f"or remove them: {'; '.join(bad[:_NAMED])}{more}"
        )
    return torch.from_numpy(np.stack(found)).float() / 255


def _decoded(file: Path, channels: int, height: int, width: int) -> Any:
    """Pixels uint8 (channels, height, width)."""
    cut = decode.decode_file(file, height, width)
    if channels == 1:
        return np.asarray(cut.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))


def _coloured(images: Tensor, channels: int, name: str) -> Tensor:
    """Images (N, C, H, W) with so many channels."""
    own = images.shape[1]
    if own == channels:
        return images
    if own == 1:
        return images.repeat(1, channels, 1, 1)
    if own == 3:  # luminance of ITU-R BT.601, as Pillow's
        return (images * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, True)
    raise DataError(f"{name}: its images have {own} channels, the network takes {channels}")
