"""Studies: those that ship load and survive being written; errors name file, key and nearest."""

from pathlib import Path

import pytest

from bitladder.errors import StudyError
from bitladder.options import Precision
from bitladder.study import EMBEDDED_STUDIES, load

SHIPPED = [
    *sorted(Path(str(EMBEDDED_STUDIES)).rglob("*.yaml")),
    *sorted((Path(__file__).parents[1] / "studies").rglob("*.yaml")),
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_study_survives_being_written_and_read(path, tmp_path):
    study = load(path)
    written = tmp_path / "again.yaml"
    written.write_text(study.to_yaml())
    assert load(written) == study


def test_the_quick_study_is_the_default():
    assert load() == load(Path(str(EMBEDDED_STUDIES)) / "quick.yaml")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("datasets: mnist\nmodels: resnet18\ntrain: {epochs: 3}\n")
    return path


def test_names_alone_and_defaults(file):
    study = load(file)
    assert study.name == "mine"
    assert [dataset.name for dataset in study.datasets] == ["mnist"]
    assert study.precisions == (Precision(8, 8), Precision(6, 6), Precision(4, 4))


def test_overrides_reach_nested_keys(file):
    study = load(
        file, ["precisions=[8,w4a8]", "train.epochs=1", "train.early_stopping.patience=3", "seed=7"]
    )
    assert study.precisions == (Precision(8, 8), Precision(4, 8))
    assert study.train.epochs == 1
    assert study.train.early_stopping.patience == 3
    assert study.seed == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precision=8", "mine.yaml: unknown key 'precision'; did you mean 'precisions'?"),
        ("train.epoch=1", "mine.yaml: train: unknown key 'epoch'; did you mean 'epochs'?"),
        ("train.epochs=0", "mine.yaml: train.epochs:"),
        ("train.epochs=two", "mine.yaml: train.epochs:"),
        ("train.early_stopping.patienc=1", "did you mean 'patience'?"),
        ("datasets=[]", "mine.yaml: datasets:"),
        ("models=[resnet18,resnet18]", "'resnet18' is there twice"),
        ("precisions=[8,w8a8]", "'w8a8' is there twice"),
        ("precisions=[true]", "is not a precision"),
        ("verify=[htpp]", "mine.yaml: verify"),
        ("name=a/b", "mine.yaml: name:"),
        ("models=[{name: resnet18, pretrained: true, weights: a.pth}]", "not both"),
        ("seed", "override 'seed' is not key=value"),
        ("=5", "is not key=value"),
        ("train=[", "not valid YAML"),
        ("seed.low=1", "'seed' has no keys below it here"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(file, override, message):
    overrides = ["seed=3", override] if override.startswith("seed.") else [override]
    with pytest.raises(StudyError) as raised:
        load(file, overrides)
    text = str(raised.value)
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not valid YAML"),
        (b"- 1", "a study is a mapping"),
        (b"\xff\xfe\xff", "cannot read this file"),
        (b"", "a study is a mapping"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=message):
        load(path)
    with pytest.raises(StudyError, match="no such study file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(StudyError, match="cannot read"):
        load(tmp_path)
