"""What studies use stays; what none uses any more, and half-written folders, can be removed."""

import subprocess
import sys

import pytest
from filelock import FileLock

from bitladder.errors import StoreError
from bitladder.store import Store, collect, entries, registered, registering

OLD, NEW, LIVE = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def store(tmp_path):
    """A store with two outputs and a checkpoint, used by the run in ``out``."""
    store = Store(tmp_path / "store")
    for key, label in ((OLD, "train old net"), (NEW, "train new net")):
        store.make(key, lambda folder: (folder / "f").write_text("12345"), label=label)
    (store.scratch(OLD) / "0.ckpt").write_text("1")
    (tmp_path / "out").mkdir()
    with registering(store, "s", tmp_path / "out", {OLD: "train old net", NEW: "train new net"}):
        pass
    return store


def _keys(store):
    return {path.name for path in store.stages.iterdir()}


def test_what_a_study_uses_stays(store):
    assert collect(store) == []
    assert _keys(store) == {OLD, NEW}


def test_the_next_run_of_a_study_forgets_what_it_no_longer_uses(store, tmp_path):
    with registering(store, "s", tmp_path / "out", {NEW: "train new net"}):
        pass
    [would] = [
        found for found in collect(store, dry_run=True) if found.path.parent.name == "stages"
    ]
    assert (would.label, would.path.name) == ("train old net", OLD)
    assert would.bytes >= 5
    assert _keys(store) == {OLD, NEW}
    assert {found.label for found in collect(store)} == {
        "train old net", "checkpoint of train old net",
    }  # fmt: skip
    assert _keys(store) == {NEW}
    assert not list(store.partial.iterdir())


def test_two_studies_share_and_each_keeps_what_it_uses(store, tmp_path):
    (tmp_path / "other").mkdir()
    with registering(store, "t", tmp_path / "other", {NEW: "train new net"}):
        pass
    assert {entry.key: entry.studies for entry in entries(store)} == {OLD: ("s",), NEW: ("s", "t")}
    (tmp_path / "out").rmdir()
    assert [run.study for run in registered(store)] == ["t"]
    collect(store)
    assert _keys(store) == {NEW}


def test_a_study_of_another_machine_is_not_forgotten(store, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    with registering(store, "far", tmp_path / "nowhere", {OLD: "train old net"}):
        pass
    monkeypatch.undo()
    (tmp_path / "out").rmdir()
    collect(store)
    assert _keys(store) == {OLD}


def test_what_is_being_made_is_left_alone(store, tmp_path):
    working, half = store.partial / f"{LIVE[:16]}.output", store.partial / "dddd.output"
    for folder in (working, half):
        folder.mkdir()
    (store.scratch(LIVE) / "epoch.ckpt").write_text("1")
    with FileLock(store.lock(LIVE)):
        assert {found.path for found in collect(store)} == {half}
    assert working.exists()
    assert {found.path.name for found in collect(store)} == {
        f"{LIVE[:16]}.output", f"{LIVE}.checkpoint",
    }  # fmt: skip


def test_a_run_that_goes_on_is_not_taken_for_an_earlier_one(store, tmp_path):
    code = f"""
from pathlib import Path
from bitladder.store import Store, registering
with registering(Store(Path({str(store.root)!r})), "s", Path({str(tmp_path / "out")!r}),
                 {{{OLD!r}: "train old net"}}):
    print("there", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip() == "there"
        with registering(store, "s", tmp_path / "out", {NEW: "train new net"}):
            pass
        assert collect(store) == []
        process.communicate("\n", timeout=60)
    with registering(store, "s", tmp_path / "out", {NEW: "train new net"}):
        pass
    assert OLD in {found.path.name for found in collect(store)}


def test_a_store_that_nothing_was_registered_in_is_not_emptied(tmp_path):
    store = Store(tmp_path)
    store.make(OLD, lambda folder: (folder / "f").write_text(""))
    with pytest.raises(StoreError, match="no run was ever registered here"):
        collect(store)
    assert _keys(store) == {OLD}


def test_damaged_outputs_are_listed_too(store):
    (store.stages / OLD / "manifest.json").unlink()
    assert {entry.label for entry in entries(store)} == {"old net", "new net"}
