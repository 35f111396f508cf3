"""The store: outputs appear whole or not at all, damage is found, each is made once."""

import json
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from filelock import FileLock

from bitladder.errors import StoreError
from bitladder.store import BusyError, Store, digest, outputs

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
    first = store.make(KEY, _writer("1", calls))
    again = Store(tmp_path).make(KEY, _writer("2", calls))
    assert (first.produced, again.produced) == (True, False)
    assert again.folder == first.folder
    assert (first.folder / "sub" / "value.txt").read_text() == "1"
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("change", "sub/value.txt is damaged"),
        ("remove", "sub/value.txt is missing"),
        ("manifest", "manifest.json is missing or damaged"),
        ("garbage", "manifest.json is missing or damaged"),
        ("file", "manifest.json is missing or damaged"),
        ("before", "it is of format 1; this bitladder reads 2"),
        ("later", "it is of format 3; this bitladder reads 2"),
    ],
)
def test_a_damaged_output_is_found_and_made_again(tmp_path, harm, said):
    store = Store(tmp_path)
    folder = store.make(KEY, _writer("1", [])).folder
    if harm == "change":
        (folder / "sub" / "value.txt").write_text("x")
    elif harm == "remove":
        (folder / "sub" / "value.txt").unlink()
    elif harm == "manifest":
        (folder / "manifest.json").unlink()
    elif harm == "file":
        shutil.rmtree(folder)
        folder.write_text("not a folder")
    elif harm in ("before", "later"):
        manifest = json.loads((folder / "manifest.json").read_text())
        content = manifest["files"] if harm == "before" else {**manifest, "format": 3}
        (folder / "manifest.json").write_text(json.dumps(content))
    else:
        (folder / "manifest.json").write_text("[1]")
    assert store.get(KEY) is None
    made = store.make(KEY, _writer("2", []))
    assert made.produced
    assert said in made.damage
    assert (made.folder / "sub" / "value.txt").read_text() == "2"
    assert [line.key for line in store.journal.read()] == [KEY, KEY]


def test_what_nobody_has_touched_is_hashed_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    folder = store.make(KEY, _writer("1", [])).folder
    hashed = []
    monkeypatch.setattr(outputs, "_hash", lambda path: hashed.append(path.name))
    assert store.get(KEY) == folder
    assert hashed == []
    assert store.get(KEY, thorough=True) is None  # what was counted is no hash
    assert hashed == ["value.txt"]


def test_a_copied_store_is_hashed_again_and_found_sound(tmp_path):
    Store(tmp_path / "a").make(KEY, _writer("1", []))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copied = Store(tmp_path / "b")
    assert copied.get(KEY) == tmp_path / "b" / "stages" / KEY


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    store = Store(tmp_path)
    left = tmp_path / "partial" / f"{KEY[:16]}.output"
    (left / "sub").mkdir(parents=True)
    store.make(KEY, _writer("1", []))
    assert not left.exists()


def test_a_process_that_does_not_wait_is_told_that_another_works(tmp_path):
    store = Store(tmp_path)
    with FileLock(store.lock(KEY)):
        assert store.is_locked(KEY)
        with pytest.raises(BusyError):
            store.make(KEY, _writer("1", []), wait=False)
    assert not store.is_locked(KEY)


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


@pytest.mark.parametrize("library", ["python", "torch", "safetensors"])
def test_a_disk_that_fills_while_a_library_writes_is_told(small_disk, library):
    values = torch.zeros(2_000_000)

    def write(folder):
        if library == "python":
            (folder / "weights").write_bytes(bytes(8_000_000))
        elif library == "torch":
            torch.save(values, folder / "weights")
        else:
            safetensors.torch.save_file({"values": values}, folder / "weights")

    with pytest.raises(StoreError, match="cannot write: No space left on device; free"):
        Store(small_disk).make(KEY, write)
    assert not list((small_disk / "partial").iterdir())


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
print(Store(Path({str(tmp_path)!r})).make({KEY!r}, produce).produced)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(said) == ["False", "True"]


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
