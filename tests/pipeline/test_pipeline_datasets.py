"""A data set is read once; the store remembers it until a file of it is touched."""

import os
import time

import pytest

from bitladder import data
from bitladder.data_names import EMBEDDED, sources
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline import datasets
from bitladder.pipeline.datasets import fingerprint_of, identify, load_known
from bitladder.store import Store
from bitladder.tasks import find

TASK = find("classification")
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

        found = identify(
            DatasetOptions(**options),
            LOADER,
            seed=seed,
            task="classification",
            store=store,
            read=load,
        )
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
    time.sleep(2 * datasets._TICK / 1e9)  # younger files are read again
    return folder


def test_it_is_read_once_and_remembered_as_it_is(ask, folder):
    name = str(folder)
    images = data.load(DatasetOptions(name=name), LOADER, seed=1)
    for read in (True, False):
        known, was_read = ask(name=name)
        expected = (fingerprint_of(images), True, read)
        assert (known.fingerprint, known.test, was_read) == expected
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


def test_a_file_in_another_s_place_is_read_again(ask, folder, tmp_path):
    name = str(folder)
    ask(name=name)
    path = next(folder.glob("train-images*"))
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    with pytest.raises(DataError):  # the gzip file is damaged, so it was read
        ask(name=name)


def test_a_file_behind_a_link_to_a_folder_is_read_again(ask, folder, tmp_path):
    real = folder.rename(tmp_path / "real")
    folder.mkdir()
    for path in real.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "class").symlink_to(tmp_path / "class")
    (tmp_path / "class").mkdir()
    (folder / "around").symlink_to(folder)  # a circle
    time.sleep(2 * datasets._TICK / 1e9)
    assert [ask(name=str(folder))[1] for _ in range(2)] == [True, False]
    (tmp_path / "class" / "1.png").write_bytes(b"1")
    assert ask(name=str(folder))[1]
    time.sleep(2 * datasets._TICK / 1e9)
    ask(name=str(folder))  # remembered now, if it was not while the change was young
    assert not ask(name=str(folder))[1]
    (tmp_path / "class" / "without files").mkdir()
    assert ask(name=str(folder))[1]


def test_what_was_changed_just_now_is_not_remembered(ask, folder, monkeypatch):
    path = next(folder.glob("train-labels*"))
    monkeypatch.setattr(datasets.time, "time_ns", lambda: path.stat().st_ctime_ns + 1000)
    assert [ask(name=str(folder))[1] for _ in range(2)] == [True, True]


def test_what_was_remembered_in_another_form_is_read_again(ask, folder):
    before = ask(name=str(folder))
    for path in folder.parent.glob("store/memory/*.json"):
        path.write_text('{"fingerprint": "x"}')
    assert ask(name=str(folder)) == before


def test_a_stage_takes_no_other_images_than_its_key_has(folder):
    options = DatasetOptions(name=str(folder))
    images = load_known(
        options, LOADER, 1, TASK, fingerprint_of(data.load(options, LOADER, seed=1))
    )
    with pytest.raises(DataError, match="not those with which the run began"):
        load_known(options, LOADER, 2, TASK, fingerprint_of(images))


FUNCTION = """
import random
import numpy, torch
from torch.utils.data import TensorDataset

def drawn():
    labels = torch.arange(40) % 4
    noise = torch.rand(40, 1, 8, 8) + random.random() + float(numpy.random.rand())
    return [TensorDataset(noise, labels)]
"""


def test_a_function_that_draws_at_random_draws_the_same_again(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn_data.py").write_text(FUNCTION)
    first, second = (ask(name="drawn_data:drawn", train=30, validation=10) for _ in range(2))
    assert first == second == (first[0], True)  # nothing of it is remembered


def test_a_function_of_the_user_s_and_what_is_not_there_have_no_files(tmp_path):
    assert sources("own_data:three", None) is None
    assert sources(str(tmp_path / "nowhere"), None) is None
    assert {path.parent for path in sources("embedded", None)} == {EMBEDDED}
