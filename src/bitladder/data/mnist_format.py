"""Read MNIST-format (idx) files, plain or gzipped, checking magic numbers and sizes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bitladder.errors import DataError
from bitladder.outside import read_bytes

_IMAGES, _LABELS = 0x803, 0x801
_MAX_ELEMENTS = 2**33


def read_pair(folder: Path, prefix: str) -> tuple[Tensor, Tensor] | None:
    """Read ``PREFIX-images-idx3-ubyte`` and its labels.

    Args:
        folder: where the files are, with or without ``.gz``.
        prefix: ``train`` or ``t10k``.

    Returns:
        uint8 images (N, 1, H, W) and int64 labels (N,), or None where there is no image file.

    Raises:
        DataError: a file is missing, corrupt, or does not fit the other.
    """
    image_file = _file(folder, f"{prefix}-images-idx3-ubyte")
    if image_file is None:
        return None
    label_file = _file(folder, f"{prefix}-labels-idx1-ubyte")
    if label_file is None:
        raise DataError(f"{image_file}: its labels '{prefix}-labels-idx1-ubyte' are not beside it")
    images, labels = read(image_file, _IMAGES), read(label_file, _LABELS)
    if len(images) != len(labels):
        raise DataError(f"{label_file}: {len(labels)} labels for {len(images)} images")
    return images[:, None], labels.long()


def read(path: Path, magic: int) -> Tensor:
    """Read one idx file of unsigned bytes into a uint8 tensor of the header's shape."""
    content = _bytes(path)
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(content) < header or struct.unpack(">I", content[:4])[0] != magic:
        raise DataError(f"{path}: not an MNIST-format file of {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = int(np.prod(shape, dtype=object))
    if not 0 < expected <= _MAX_ELEMENTS or len(content) != header + expected:
        raise DataError(
            f"{path}: {len(content) - header} bytes of data where its header says {expected}; "
            "the file is corrupt, get it again"
        )
    values = np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(values.copy())


def _file(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _bytes(path: Path) -> bytes:
    try:
        content = read_bytes(path, refusal=DataError)
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot read this file: {error}; get it again") from None
