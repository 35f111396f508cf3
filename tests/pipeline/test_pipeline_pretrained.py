"""The file of pretrained weights counts by its content, and is found again without torch."""

import os

import pytest

from bitladder import models
from bitladder.errors import ModelError
from bitladder.options import ModelOptions
from bitladder.pipeline.planning import build
from bitladder.pipeline.pretrained import check_weights, identify_weights
from bitladder.store import Store
from bitladder.study import Study

NET = ModelOptions(name="vgg11", pretrained=True)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where a library keeps the weights of any name; ``asked`` counts how often it was asked."""
    path = tmp_path / "hub" / "snapshots" / "1" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    asked = []
    monkeypatch.setattr(
        models, "pretrained_file", lambda name: asked.append(name) or path, raising=False
    )
    return path, asked


def test_the_libraries_are_asked_once_and_another_file_is_seen(file, tmp_path):
    path, asked = file
    store = Store(tmp_path / "store")
    first = identify_weights(NET, store)
    assert identify_weights(NET, store) == first
    assert asked == ["vgg11"]
    before = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = identify_weights(NET, store)
    assert second != first
    check_weights("vgg11", second)
    with pytest.raises(ModelError, match="are not those with which the run began"):
        check_weights("vgg11", first)


def test_another_snapshot_of_a_hub_is_seen(file, tmp_path):
    _, asked = file
    store = Store(tmp_path / "store")
    refs = tmp_path / "hub" / "refs" / "main"
    refs.parent.mkdir()
    refs.write_text("1")
    identify_weights(NET, store)
    refs.write_text("2")
    identify_weights(NET, store)
    assert len(asked) == 2


def test_a_network_that_starts_from_none_has_none(file, tmp_path):
    store = Store(tmp_path / "store")
    assert identify_weights(ModelOptions(name="vgg11"), store) is None
    assert identify_weights(ModelOptions(name="nets:net", pretrained=True), store) is None
    assert file[1] == []
    check_weights("vgg11", None)


def test_other_weights_make_every_stage_anew():
    study = Study.model_validate(
        {"name": "s", "datasets": ["embedded"], "models": [NET], "precisions": [8]}
    )
    keys = []
    for content in ("1", "2"):
        [cell] = build(study, {"embedded": "f"}, (), weights={"vgg11": content})
        keys.append(cell.keys)
    assert not set(keys[0]) & set(keys[1])
