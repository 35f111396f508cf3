"""Every cell has a name and a folder of its own, inside ``cells/``, whatever things are called."""

import itertools
from pathlib import Path

import pytest

from bitladder.errors import StudyError
from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import plan
from bitladder.study import Study

ODD = [
    *("a/photos", "b/photos", "photos", "PHOTOS", "./photos", "photos/", "a.photos"),
    *("..", ".", "../..", "/", "/etc/passwd", "../../../etc", "a/..", "a/../..", "~", "~root"),
    *("con:f", "a b", "a\tb", "a\nb", "*", "?", "|", "a\\b", "C:\\x"),
    *("\ufb01les", "files", "\u00e9", "e\u0301", "\u5199\u771f", "\u5199" * 300),
    *("x" * 300, "x" * 301, "...", "___", "-", "%2e%2e", "$HOME", "`id`"),
]  # fmt: skip


def _id(names):
    return " ".join(names) if len(names) == 2 else f"{len(names)} names"


def _cells(datasets, models=("resnet18",)):
    return plan(
        Study.model_validate(
            {"name": "s", "datasets": list(datasets), "models": list(models), "precisions": [8]}
        )
    )


def _folders(cells):
    return [cell.name.split("/") for cell in cells]


@pytest.mark.parametrize("names", [ODD, *itertools.combinations(ODD[:9], 2)], ids=_id)
def test_no_two_cells_share_a_folder_and_none_leaves_its_place(names, tmp_path):
    cells = _cells(names)
    root = (tmp_path / "cells").resolve()
    places = [root / cell.name for cell in cells]
    assert len({str(place).casefold() for place in places}) == len(cells)
    for place in places:
        assert place.resolve().parent.parent.parent == root
        place.mkdir(parents=True)  # the file system takes it


def test_the_plain_name_stays_where_it_is_the_only_one():
    assert _folders(_cells(["a/photos", "embedded"])) == [
        ["photos", "resnet18", "w8a8"],
        ["embedded", "resnet18", "w8a8"],
    ]
    assert _folders(_cells(["embedded"], ["my.nets:small"]))[0][1] == "my.nets.small"


def test_what_has_the_same_name_is_told_apart_by_more_of_it():
    folders = [name for name, _, _ in _folders(_cells(["a/photos", "b/photos"]))]
    assert folders == ["a.photos", "b.photos"]
    sizes = ["embedded", {"name": "embedded", "size": 64}]
    cells = _cells(sizes)
    assert [cell.dataset_label for cell in cells] == ["embedded", "embedded size=64"]
    assert [name for name, _, _ in _folders(cells)] == ["embedded", "embedded-size_64"]
    assert len({stage.label for cell in cells for stage in cell.stages}) == 10
    cells = _cells(["embedded"], ["vgg11", {"name": "vgg11", "pretrained": True}])
    assert [cell.model_label for cell in cells] == ["vgg11", "vgg11 pretrained"]
    assert cells[0].stage(KINDS["train"]).key != cells[1].stage(KINDS["train"]).key


def test_each_data_set_keeps_its_own_fingerprint():
    from bitladder.pipeline.names import labels
    from bitladder.pipeline.planning import build

    study = Study.model_validate(
        {
            "name": "s", "models": ["resnet18"], "precisions": [8],
            "datasets": ["embedded", {"name": "embedded", "size": 64}],
        }
    )  # fmt: skip
    prints = dict(zip(labels(study.datasets), "ab", strict=True))
    cells = build(study, prints, [])
    assert [cell.stage(KINDS["train"]).spec["fingerprint"] for cell in cells] == ["a", "b"]


def test_the_very_same_entry_twice_is_still_refused(tmp_path):
    from bitladder.study import load

    path = tmp_path / "s.yaml"
    path.write_text("datasets: [{name: embedded, size: 64}, {size: 64}]\nmodels: [resnet18]\n")
    with pytest.raises(StudyError, match="'embedded' is there twice"):
        load(path)


def test_names_do_not_depend_on_the_folder_above(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    assert _cells(["photos"])[0].name == "photos/resnet18/w8a8"
    assert _cells([str(Path.cwd() / "photos")])[0].name == "photos/resnet18/w8a8"
