"""Small files in the MNIST format, written by hand."""

import gzip
import struct

import numpy as np
import pytest


@pytest.fixture
def write_idx():
    """Write images and labels as MNIST-format files; returns them."""

    def write(folder, prefix, count, *, size=28, classes=10, seed=0, zipped=False):
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (count, size, size), np.uint8)
        labels = (np.arange(count) % classes).astype(np.uint8)
        contents = {
            "images-idx3-ubyte": struct.pack(">4I", 0x803, count, size, size) + images.tobytes(),
            "labels-idx1-ubyte": struct.pack(">2I", 0x801, count) + labels.tobytes(),
        }
        for name, content in contents.items():
            path = folder / f"{prefix}-{name}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
        return images, labels

    return write
