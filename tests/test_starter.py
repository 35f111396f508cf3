"""The study that ``bitladder init`` writes: valid, also with each option taken, and never lost."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from bitladder.cli import app
from bitladder.errors import BitladderError, DataError, ModelError, StoreError, StudyError
from bitladder.pipeline import plan
from bitladder.starter import write_study
from bitladder.study import load

OPTION = re.compile(r"^( *)# (?=- |[a-z_]+: )", re.MULTILINE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("photos/cat", "photos/dog", "fashion_mnist/a", "fashion_mnist/b", "my: x/a",
                  "my: x/b", "a:b/a", "a:b/b"):  # fmt: skip
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / f"{number}.png")
    _network("square.onnx", ["n", 3, 64, 64])
    _network("wide.onnx", ["n", 3, 48, 96])
    _network("open.onnx", ["n", 3, "h", "w"])
    _network("tokens.onnx", ["n", 7])
    return tmp_path


def _network(path, shape):
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.mark.parametrize(
    ("sources", "images", "model", "size"),
    [
        ([], "embedded", "mobilenet_v2", 32),
        (["photos"], "photos", "mobilenet_v2", 224),
        (["kmnist"], "kmnist", "mobilenet_v2", 32),
        (["fashion_mnist"], "./fashion_mnist", "mobilenet_v2", 224),  # the folder that is here
        (["my: x"], "./my: x", "mobilenet_v2", 224),
        (["a:b"], "./a:b", "mobilenet_v2", 224),
        (["square.onnx"], "./pictures", "square.onnx", 64),
        (["photos", "wide.onnx"], "photos", "wide.onnx", (48, 96)),
        (["open.onnx", "photos"], "photos", "open.onnx", 224),
    ],
)
def test_what_is_written_is_planned_as_it_is_and_with_any_option(
    here, sources, images, model, size
):
    path = write_study(sources, here / "mine.yaml")
    study = load(path)
    assert [(one.name, one.size) for one in study.datasets] == [(images, size)]
    assert [one.name for one in study.models] == [model]
    assert len(plan(study)) == 6
    text = path.read_text()
    options = list(OPTION.finditer(text))
    assert len(options) >= 7
    for option in options:
        path.write_text(text[: option.end(1)] + text[option.end() :])
        assert load(path) != study, option
        plan(load(path))


def test_every_kind_of_source_that_is_none_is_told(here):
    for sources, error, message in (
        (["nowhere"], StudyError, "'nowhere': no folder of images, no .onnx file"),
        (["nul\0"], StudyError, "no folder of images"),
        (["photos", "photos"], StudyError, "one of each"),
        (["square.onnx", "wide.onnx"], StudyError, "one of each"),
        (["photos/cat"], DataError, "photos/cat"),
        (["none.onnx"], ModelError, "none.onnx: cannot read this file"),
        (["tokens.onnx"], ModelError, "tokens.onnx: must take images"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            write_study(sources, here / "mine.yaml")
        assert not (here / "mine.yaml").exists()


def test_nothing_is_overwritten_and_a_place_that_takes_no_file_is_told(here):
    (here / "study.yaml").write_text("mine")
    (here / "link.yaml").symlink_to(here / "nothing")
    for name, error in (
        ("study.yaml", StoreError),
        ("link.yaml", StoreError),
        ("none/study.yaml", StoreError),
        ("my study.yaml", StudyError),  # a study is named after its file
    ):
        with pytest.raises(error, match=re.escape(name)):
            write_study(["photos"], here / name)
    assert (here / "study.yaml").read_text() == "mine"
    assert not (here / "nothing").exists()


def test_the_command_writes_and_says_what_comes_next(here):
    done = CliRunner().invoke(app, ["init", "photos", "-o", "mine.yaml"])
    assert done.exit_code == 0
    assert "bitladder run mine.yaml" in done.output
    again = CliRunner().invoke(app, ["init", "photos", "-o", "mine.yaml"])
    assert isinstance(again.exception, BitladderError)
