"""The store: outputs appear whole or not at all, damage is found, each is made once."""

import subprocess
import sys

import pytest

from bitladder.errors import StoreError
from bitladder.store import Store, digest

KEY = "a" * 64


def _writer(text, calls):
    def produce(folder):
        calls.append(folder)
        (folder / "sub").mkdir()
        (folder / "sub" / "value.txt").write_text(text)

    return produce


def test_an_output_is_made_once(tmp_path):
    calls = []
    store = Store(tmp_path)
    assert store.get(KEY) is None
    folder, produced = store.make(KEY, _writer("1", calls))
    again, produced_again = Store(tmp_path).make(KEY, _writer("2", calls))
    assert (produced, produced_again) == (True, False)
    assert again == folder
    assert (folder / "sub" / "value.txt").read_text() == "1"
    assert len(calls) == 1


@pytest.mark.parametrize("harm", ["change", "remove", "manifest", "garbage"])
def test_a_damaged_output_is_found_and_made_again(tmp_path, harm):
    store = Store(tmp_path)
    folder, _ = store.make(KEY, _writer("1", []))
    if harm == "change":
        (folder / "sub" / "value.txt").write_text("x")
    elif harm == "remove":
        (folder / "sub" / "value.txt").unlink()
    elif harm == "manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text("[1]")
    assert store.get(KEY) is None
    folder, produced = store.make(KEY, _writer("2", []))
    assert produced
    assert (folder / "sub" / "value.txt").read_text() == "2"


def test_a_failure_leaves_nothing_but_the_checkpoint(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        (folder / "half.txt").write_text("half")
        (store.scratch(KEY) / "epoch.ckpt").write_text("epoch 1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.make(KEY, fail)
    assert store.get(KEY) is None
    assert [path.name for path in (tmp_path / "partial").rglob("*") if path.is_file()] == [
        "epoch.ckpt"
    ]
    store.make(KEY, _writer("1", []))
    assert not list((tmp_path / "partial").iterdir())


def test_a_full_disk_is_a_store_error(tmp_path):
    def fail(folder):
        raise OSError(28, "No space left on device", str(folder / "weights"))

    with pytest.raises(StoreError, match="weights: cannot write: No space left on device"):
        Store(tmp_path).make(KEY, fail)


def test_a_store_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the store here"):
        Store(tmp_path / "file")


def test_two_processes_make_one_output(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from bitladder.store import Store
def produce(folder):
    time.sleep(0.5)
    (folder / "who.txt").write_text(sys.argv[1])
_, produced = Store(Path({str(tmp_path)!r})).make({KEY!r}, produce)
print(produced)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(said) == ["False", "True"]


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
