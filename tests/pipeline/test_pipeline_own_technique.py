"""A technique of the user's in a study: run, kept, and made anew when its source changes."""

import re
import sys
from pathlib import Path

import pytest

from bitladder.errors import StudyError
from bitladder.pipeline import RunOptions, run
from bitladder.pipeline.planning import plan
from bitladder.study import Study
from small_study import NETWORK, STUDY

DOCUMENT = Path(__file__).parents[2] / "docs" / "techniques.md"
SOURCE = re.findall(r"```python\n(# own_package/steps.py\n.*?)```", DOCUMENT.read_text(), re.S)[0]
PATH = "own_package.steps:ShrinkBiases"
RECIPE = ["fold_batch_norm", {"calibrate": {"images": 100, "method": "min_max"}}]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The current folder, with a package of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small_nets.py").write_text(NETWORK)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "steps.py").write_text(SOURCE)
    yield tmp_path / "own_package"
    for name in [name for name in sys.modules if name.startswith("own_package")]:
        del sys.modules[name]


def _study(step, **changes):
    content = {**STUDY, "precisions": [8], "train": {**STUDY["train"], "epochs": 1}, **changes}
    return Study.model_validate({**content, "recipe": [*RECIPE, step]})


def _keys(step):
    [cell] = plan(_study(step))
    return {stage.kind.name: stage.key for stage in cell.stages}


def test_its_source_is_in_the_key_from_the_stage_on_that_applies_it(package):
    before = _keys({PATH: {}})
    assert _keys(PATH) == _keys({PATH: {"factor": 0.5}}) == before
    text = (package / "steps.py").read_text()
    (package / "steps.py").write_text(text.replace("mul_(options.factor)", "mul_(0.1)"))
    after = _keys({PATH: {}})
    assert before["train"] == after["train"]
    assert all(before[kind] != after[kind] for kind in before if kind != "train")
    (package / "steps.py").write_text(text)
    assert _keys({PATH: {}}) == before
    assert _keys({PATH: {"factor": 0.25}})["quantize"] != before["quantize"]


def test_a_study_survives_being_written_and_read(package):
    study = _study({PATH: {"factor": 0.25}})
    [*_, step] = study.model_dump(mode="json")["recipe"]
    assert step == {PATH: {"factor": 0.25}}
    assert plan(Study.model_validate(study.model_dump(mode="json"))) == plan(study)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({PATH: {"facto": 1}}, "unknown option 'facto'; did you mean 'factor'"),
        ("own_package.steps:Shrinks", "has no attribute 'Shrinks'"),
        ("own_package.stops:ShrinkBiases", "No module named 'own_package.stops'"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_runs(package, step, said):
    with pytest.raises((StudyError, ValueError), match=said):
        _study(step)


def test_it_is_a_rung_of_the_study(package, tmp_path):
    options = RunOptions(output=tmp_path / "out", store=tmp_path / "store", in_process=True)
    [cell] = run(_study({PATH: {"factor": 0.25}}), options=options).cells
    assert cell.error is None
    rungs = {rung.technique: rung for rung in cell.rungs}
    assert "0.25 of every bias" in rungs[PATH].notes
