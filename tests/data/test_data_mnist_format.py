"""MNIST-format files: what was written is what is read, and each corruption is told."""

import numpy as np
import pytest

from bitladder.data.mnist_format import read_pair
from bitladder.errors import DataError


@pytest.mark.parametrize("zipped", [False, True])
def test_what_was_written_is_read(tmp_path, write_idx, zipped):
    images, labels = write_idx(tmp_path, "train", 7, size=5, zipped=zipped)
    read_images, read_labels = read_pair(tmp_path, "train")
    assert np.array_equal(read_images[:, 0].numpy(), images)
    assert np.array_equal(read_labels.numpy(), labels)


def test_an_absent_split_is_none(tmp_path, write_idx):
    write_idx(tmp_path, "train", 3)
    assert read_pair(tmp_path, "t10k") is None


def _harm(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "too long":
        path.write_bytes(content + b"\0")
    elif how == "magic":
        path.write_bytes(b"\0\0\x08\x01" + content[4:])
    elif how == "huge":
        path.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "too long", "magic", "huge", "empty"])
def test_a_corrupt_file_is_named(tmp_path, write_idx, how):
    write_idx(tmp_path, "train", 3)
    path = tmp_path / "train-images-idx3-ubyte"
    _harm(path, how)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: .*(corrupt|not an MNIST)"):
        read_pair(tmp_path, "train")


def test_a_truncated_gzip_is_named(tmp_path, write_idx):
    write_idx(tmp_path, "train", 3, zipped=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz: cannot read this file"):
        read_pair(tmp_path, "train")


def test_labels_that_are_missing_or_of_another_number(tmp_path, write_idx):
    write_idx(tmp_path, "train", 3)
    labels = tmp_path / "train-labels-idx1-ubyte"
    write_idx(tmp_path / "other", "train", 4)
    labels.write_bytes((tmp_path / "other" / labels.name).read_bytes())
    with pytest.raises(DataError, match="4 labels for 3 images"):
        read_pair(tmp_path, "train")
    labels.unlink()
    with pytest.raises(DataError, match="not beside it"):
        read_pair(tmp_path, "train")
