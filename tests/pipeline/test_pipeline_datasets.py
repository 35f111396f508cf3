"""A data set is read once; the store remembers it until a file of it is touched."""

import os

import pytest

from bitladder import data
from bitladder.data_names import EMBEDDED, sources
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline.datasets import know
from bitladder.store import Store

LOADER = LoaderOptions(download=False)


@pytest.fixture
def ask(tmp_path):
    """Ask for what is known of a data set; returns it and whether the data set was read."""
    store = Store(tmp_path / "store")

    def know_of(seed=1, **options):
        read = []

        def load(asked):
            read.append(asked)
            return data.load(asked, LOADER, seed=seed)

        found = know(DatasetOptions(**options), LOADER, seed=seed, store=store, read=load)
        return found, bool(read)

    return know_of


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded set as a folder of MNIST-format files with a test split."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in EMBEDDED.glob("*-ubyte*"):
        name = path.name.replace("validation", "t10k")
        (folder / name).write_bytes(path.read_bytes())
    return folder


def test_it_is_read_once_and_remembered_as_it_is(ask, folder):
    name = str(folder)
    images = data.load(DatasetOptions(name=name), LOADER, seed=1)
    for read in (True, False):
        known, was_read = ask(name=name)
        assert (known.fingerprint, known.test, was_read) == (images.fingerprint, True, read)
    assert ask(name="embedded")[0].test is False


def test_another_split_is_read(ask, folder):
    name = str(folder)
    first, _ = ask(name=name)
    for changes in ({"seed": 2}, {"train": 100, "validation": 10}, {"size": 40}):
        known, was_read = ask(name=name, **changes)
        assert was_read
        assert known.fingerprint != first.fingerprint


def test_a_file_that_was_touched_is_read_again(ask, folder):
    name = str(folder)
    before, _ = ask(name=name)
    path = next(folder.glob("train-labels*"))
    times, content = path.stat(), path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # its size and its time are as before
    assert ask(name=name) == (before, True)
    for left in folder.glob("t10k-*"):
        left.unlink()
    known, was_read = ask(name=name)
    assert was_read
    assert not known.test


def test_a_function_of_the_user_s_and_what_is_not_there_have_no_files(tmp_path):
    assert sources("own_data:three", None) is None
    assert sources(str(tmp_path / "nowhere"), None) is None
    assert {path.parent for path in sources("embedded", None)} == {EMBEDDED}
