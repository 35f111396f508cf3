"""``bitladder store`` as a person types it."""

import json

import pytest
from typer.testing import CliRunner

from bitladder.cli import app
from bitladder.errors import StoreError
from bitladder.store import Store, registering

USED, UNUSED = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for key, label in ((USED, "train d used"), (UNUSED, "train d unused")):
        store.make(key, lambda folder: (folder / "f").write_text("1"), kind="train", label=label)
    (tmp_path / "out").mkdir()
    with registering(store, "mine", tmp_path / "out", {USED: "train d used"}):
        pass
    return store


def _call(store, *arguments):
    done = CliRunner().invoke(app, ["store", *arguments, "--store", str(store.root)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_ls_says_what_is_there_and_who_uses_it(store):
    text = _call(store, "ls").output
    [line] = [line for line in text.splitlines() if "d used" in line]
    assert "mine" in line
    assert "2 outputs" in text
    assert "1 of them" in text
    found = json.loads(_call(store, "ls", "--json").output)
    assert {entry["label"]: entry["studies"] for entry in found} == {
        "d used": ["mine"], "d unused": [],
    }  # fmt: skip


def test_verify_names_what_is_damaged_with_exit_code_1(store):
    assert _call(store, "verify").output == "2 outputs are sound\n"
    (store.stages / USED / "f").write_text("2")
    done = _call(store, "verify")
    assert done.exit_code == 1
    assert "damaged: train d used (aaaaaaaaaaaaaaaa): f is damaged" in done.output


def test_gc_removes_what_no_study_uses(store):
    assert "would remove 1 folders" in _call(store, "gc", "--dry-run").output
    assert (store.stages / UNUSED).exists()
    assert "d unused" in _call(store, "gc").output
    assert [path.name for path in store.stages.iterdir()] == [USED]


def test_a_folder_without_a_store_is_told(tmp_path):
    done = CliRunner().invoke(app, ["store", "ls", "--store", str(tmp_path)])
    assert isinstance(done.exception, StoreError)
    assert "no store here" in str(done.exception)
