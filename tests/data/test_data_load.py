"""Data sets by name, folder and function: found, split, padded, refused where they do not fit."""

import functools
import hashlib
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitladder.data import calibration_images, load
from bitladder.data_names import find, sources
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions

HERE = LoaderOptions(download=False, workers=0)


def _load(name, seed=1, loader=HERE, **options):
    return load(DatasetOptions(name=str(name), **options), loader, seed=seed)


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def _rows(split):
    """Every image of a split as bytes, in order."""
    return [image.numpy().tobytes() for images, _ in split.batches(64) for image in images]


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine with no data on it."""
    monkeypatch.delenv("BITLADDER_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("bitladder.data_names._DEBIAN", {})
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return tmp_path


def test_the_embedded_set_is_5000_and_1000_balanced_images():
    images = _load("embedded")
    assert (images.classes, images.shapes) == (10, ((1, 32, 32),))
    assert torch.equal(images.train.targets.bincount(), torch.full((10,), 500))
    assert torch.equal(images.validation.targets.bincount(), torch.full((10,), 100))
    assert not set(_rows(images.train)) & set(_rows(images.validation))


def test_padding_puts_28_in_the_middle_of_32(tmp_path, write_idx):
    pixels, _ = write_idx(tmp_path, "train", 12)
    images = _load(tmp_path, train=11, validation=1)
    assert images.shapes == ((1, 32, 32),)
    padded = torch.cat([images.train.pixels, images.validation.pixels])[:, 0]
    assert {image[2:30, 2:30].numpy().tobytes() for image in padded} == {
        image.tobytes() for image in pixels
    }
    assert not padded[:, :2].any()
    assert not padded[:, 30:].any()
    assert not padded[:, :, :2].any()
    assert not padded[:, :, 30:].any()


def test_pixels_become_fractions(tmp_path, write_idx):
    write_idx(tmp_path, "train", 12)
    split = _load(tmp_path).train
    [(images, labels)] = list(split.batches(100))
    assert images.dtype == torch.float32
    assert torch.equal((images * 255).round().byte(), split.pixels)
    assert torch.equal(labels, split.targets)


def test_the_split_is_disjoint_and_the_seed_s(tmp_path, write_idx):
    write_idx(tmp_path, "train", 60)
    first, again, other = (_load(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert (first.train.images, first.validation.images) == (55, 5)
    assert _rows(first.train) == _rows(again.train)
    assert _rows(first.train) != _rows(other.train)
    assert not set(_rows(first.train)) & set(_rows(first.validation))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_changed_pixel_changes_the_fingerprint(tmp_path, write_idx):
    write_idx(tmp_path, "train", 12)
    before = _load(tmp_path).fingerprint
    path = tmp_path / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    assert _load(tmp_path).fingerprint != before


def test_calibration_takes_training_images_only(tmp_path, write_idx):
    write_idx(tmp_path, "train", 60)
    write_idx(tmp_path, "t10k", 20, seed=5)
    images = _load(tmp_path)
    chosen = {image.numpy().tobytes() for image in calibration_images(images, 40)[0]}
    assert len(chosen) == 40
    assert chosen <= set(_rows(images.train))
    assert not chosen & set(_rows(images.validation))
    assert not chosen & set(_rows(images.test))


def test_the_official_test_split_is_kept_apart(tmp_path, write_idx):
    write_idx(tmp_path, "train", 60)
    write_idx(tmp_path, "t10k", 20, seed=5)
    images = _load(tmp_path)
    assert images.test.images == 20
    assert images.notes == ()


def test_official_test_images_alone_are_split_with_a_note(tmp_path, write_idx):
    write_idx(tmp_path, "t10k", 20)
    images = _load(tmp_path, train=15, validation=5)
    assert images.test is None
    assert (images.train.images, images.validation.images) == (15, 5)
    assert "not comparable" in images.notes[0]


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_the_real_sets_split_as_in_the_report(name):
    if find(name, None) is None:
        pytest.skip(f"{name} is not on this machine; set BITLADDER_DATA")
    images = _load(name)
    assert (images.train.images, images.validation.images) == (55_000, 5_000)
    assert images.test.images == 10_000
    assert images.classes == 10


def test_kmnist_s_test_images_split_9000_to_1000():
    folder = find("kmnist", None)
    if folder is None:
        pytest.skip("kmnist is not on this machine; set BITLADDER_DATA")
    if list(folder.glob("train-images*")):
        pytest.skip("all of kmnist is on this machine")
    images = _load("kmnist", train=9000, validation=1000)
    assert images.validation.images == 1000
    assert images.notes


def test_named_sets_are_searched_in_order(nowhere, write_idx, monkeypatch):
    places = [
        nowhere / "root",
        nowhere / "variable",
        nowhere / "work" / "data",
        nowhere / "home" / "data",
        nowhere / "home" / ".cache" / "bitladder" / "data",
    ]
    assert find("mnist", places[0]) is None
    monkeypatch.setenv("BITLADDER_DATA", str(places[1]))
    for place in reversed(places):
        write_idx(place / "MNIST" / "raw", "train", 12)
        assert find("mnist", places[0]).resolve() == (place / "MNIST" / "raw").resolve()


def test_a_set_that_is_nowhere_says_where_to_put_it(nowhere):
    with pytest.raises(DataError, match=r"put its files into .*MNIST/raw or set data.root"):
        _load("mnist")


def test_a_download_that_fails_says_where_to_put_the_files(nowhere, monkeypatch):
    import torchvision

    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match=r"cannot be downloaded .*put its files into"):
        _load("mnist", loader=LoaderOptions())


def test_a_set_is_downloaded_checked_and_found_the_next_time(nowhere, monkeypatch):
    import torchvision

    source = Path("/usr/share/datasets/fashion-mnist")
    if not (source / "train-images-idx3-ubyte.gz").exists():
        pytest.skip("Debian's dataset-fashion-mnist, whose files are served here, is not installed")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=source)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        dataset = torchvision.datasets.FashionMNIST
        monkeypatch.setattr(dataset, "mirrors", [mirror])
        with pytest.raises(DataError, match="cannot be downloaded"):  # compressed anew: other sums
            _load("fashion_mnist", loader=LoaderOptions())
        served = [(name, _md5(source / name)) for name, _ in dataset.resources]
        monkeypatch.setattr(dataset, "resources", served)
        images = _load("fashion_mnist", loader=LoaderOptions())
        server.shutdown()
    assert (images.train.images, images.test.images) == (55_000, 10_000)
    assert _load("fashion_mnist").fingerprint == images.fingerprint


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fashionmnist", {}, "unknown data set 'fashionmnist'; did you mean 'fashion_mnist'"),
        ("./no/folder", {}, "no such folder"),
        ("~nobody_here/photos", {}, "no such folder"),
        ("./" + 300 * "x", {}, "cannot look there: File name too long"),
        ("embedded", {"train": 5001}, "there are 5000"),
        ("embedded", {"normalize": "imagenet"}, "needs 3 channels"),
        ("json:nothing", {}, "has no attribute 'nothing'"),
        ("no_module_here:f", {}, "No module named 'no_module_here'"),
    ],
)
def test_what_cannot_be_loaded_says_why(name, options, message):
    assert (sources(name, None) is None) == (name != "embedded")
    with pytest.raises(DataError) as raised:
        _load(name, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_split_larger_than_the_set(tmp_path, write_idx):
    write_idx(tmp_path, "train", 12)
    with pytest.raises(DataError, match="10 to train on and 5 to validate on, but there are 12"):
        _load(tmp_path, train=10, validation=5)


def test_another_size_is_interpolated(tmp_path, write_idx):
    write_idx(tmp_path, "train", 12)
    assert _load(tmp_path, size=64).shapes == ((1, 64, 64),)


@pytest.fixture
def folder(tmp_path):
    """An image folder: 2 classes of 12 pictures, each of one colour."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.full((20, 30, 3), 100 * label + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_folder_is_read_by_worker_processes(folder, workers):
    images = _load(folder, size=16, loader=LoaderOptions(workers=workers))
    assert (images.classes, images.shapes) == (2, ((3, 16, 16),))
    assert (images.train.images, images.validation.images) == (22, 2)
    seen = []
    for batch, labels in images.train.batches(5):
        values = (batch[:, 0, 8, 8] * 255).round().int()
        assert torch.equal(values // 100, labels.int())
        seen += values.tolist()
    assert len(set(seen)) == 22


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="not a folder of images"):
        _load(tmp_path)


def test_a_function_of_the_user_s(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "def three():\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    make = lambda n: TensorDataset(torch.rand(n, 3, 8, 8, generator=g),\n"
        "                                   torch.arange(n) % 4)\n"
        "    return make(20), make(8), make(4)\n"
        "def wrong():\n"
        "    return 5\n"
        "def flat():\n"
        "    return TensorDataset(torch.rand(20, 8), torch.arange(20) % 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    images = _load("own_data:three")
    assert (images.classes, images.shapes) == (4, ((3, 8, 8),))
    assert [split.images for split in (images.train, images.validation, images.test)] == [20, 8, 4]
    with pytest.raises(DataError, match="return one to three torch Datasets"):
        _load("own_data:wrong")
    assert _load("own_data:flat").shapes == ((8,),)  # whether a network takes it, is its own


def test_the_embedded_files_are_drawn_again_byte_for_byte(tmp_path, monkeypatch):
    source = find("fashion_mnist", None)
    if source is None:
        pytest.skip("fashion_mnist is not on this machine")
    import importlib.util

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location(
        "make_embedded", root / "scripts/make_embedded.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shipped = script.OUTPUT
    monkeypatch.setattr(script, "OUTPUT", tmp_path)
    script.main(source)
    for name in os.listdir(tmp_path):  # noqa: PTH208
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()
