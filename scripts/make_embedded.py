"""Draw the embedded images out of Fashion-MNIST's official training files.

    python scripts/make_embedded.py /usr/share/datasets/fashion-mnist

500 training and 100 validation images of each class, with a fixed seed; the files come out the
same byte for byte each time.
"""

import gzip
import struct
import sys
from pathlib import Path

import torch

from bitladder.data.mnist_format import read_pair

SEED = 2017
PER_CLASS = {"train": 500, "validation": 100}
OUTPUT = Path(__file__).parents[1] / "src" / "bitladder" / "data" / "embedded"


def main(source: Path) -> None:
    """Write the four files."""
    pair = read_pair(source, "train")
    assert pair is not None
    images, labels = pair
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(labels), generator=generator)
    start = 0
    for split, count in PER_CLASS.items():
        of_class = [order[labels[order] == label][start : start + count] for label in range(10)]
        chosen = torch.cat(of_class)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)]
        start += count
        shape = images[chosen].shape
        header = struct.pack(">4I", 0x803, shape[0], shape[2], shape[3])
        _write(f"{split}-images-idx3-ubyte.gz", header + images[chosen].numpy().tobytes())
        header = struct.pack(">2I", 0x801, shape[0])
        _write(f"{split}-labels-idx1-ubyte.gz", header + labels[chosen].byte().numpy().tobytes())


def _write(name: str, content: bytes) -> None:
    (OUTPUT / name).write_bytes(gzip.compress(content, 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
