"""A study becomes cells and stages; a key changes with everything that determines the output."""

import dataclasses

import pytest

from bitladder import target_specs
from bitladder.errors import ModelError
from bitladder.options import parse_recipe
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import build, plan, split_recipe
from bitladder.study import Study

STUDY = {"name": "s", "datasets": ["embedded"], "models": ["resnet18"], "precisions": [8, 4]}
CHANGES = [
    {"seed": 2},
    {"train": {"epochs": 3}},
    {"models": ["mobilenet_v2"]},
    {"datasets": [{"name": "embedded", "size": 64}]},
]


def _cells(study=STUDY, fingerprint="f", test=(), **changes):
    loaded = Study.model_validate({**study, **changes})
    return build(loaded, {dataset.name: fingerprint for dataset in loaded.datasets}, test)


def test_the_float_network_is_trained_once_for_all_precisions():
    first, second = _cells()
    assert first.stage(KINDS["train"]).key == second.stage(KINDS["train"]).key
    assert first.stage(KINDS["quantize"]).key != second.stage(KINDS["quantize"]).key
    assert [stage.kind.name for stage in first.stages] == [
        "train", "quantize", "finetune", "export", "verify",
    ]  # fmt: skip


def test_a_recipe_without_training_has_no_finetune_stage():
    [cell] = _cells(recipe="ptq", precisions=[8])
    assert cell.stage(KINDS["finetune"]) is None
    assert cell.stage(KINDS["export"]).inputs["simulated"] == cell.stage(KINDS["quantize"]).key
    assert cell.stage(KINDS["verify"]).inputs == {"artifact": cell.stage(KINDS["export"]).key}


def test_a_study_that_explains_itself_adds_a_stage_and_changes_no_other():
    [cell], [without] = (_cells(precisions=[4], explain=e) for e in ({"images": 20}, None))
    kinds = [stage.kind.name for stage in cell.stages]
    assert kinds == ["train", "quantize", "explain", "finetune", "export", "verify"]
    assert {stage.key for stage in without.stages} < {stage.key for stage in cell.stages}
    study = Study.model_validate({**STUDY, "precisions": [4], "explain": {"images": 20}})
    [alone] = build(study, {"embedded": "f"}, (), explain=True)
    assert alone.stage(KINDS["explain"]) == cell.stage(KINDS["explain"])
    assert [stage.kind.name for stage in alone.stages] == ["train", "quantize", "explain"]


def test_an_official_test_split_is_a_stage():
    [cell] = _cells(test=("embedded",), precisions=[8])
    assert cell.stage(KINDS["test"]).inputs == {
        "float": cell.stage(KINDS["train"]).key,
        "artifact": cell.stage(KINDS["export"]).key,
    }


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_keys_change_with_what_determines_the_output(change):
    assert _cells()[0].stage(KINDS["train"]).key != _cells(**change)[0].stage(KINDS["train"]).key


def test_keys_change_with_the_data_and_not_with_its_place():
    key = _cells()[0].stage(KINDS["train"]).key
    assert key != _cells(fingerprint="g")[0].stage(KINDS["train"]).key
    assert key == _cells(data={"root": "/elsewhere"})[0].stage(KINDS["train"]).key
    assert key == _cells(name="other", precisions=[6])[0].stage(KINDS["train"]).key


def test_the_recipe_is_split_before_the_first_technique_that_trains():
    recipe = parse_recipe(["fold_batch_norm", "calibrate", "finetune"])
    before, after = split_recipe(recipe)
    assert [step.name for step in before] == ["fold_batch_norm", "calibrate"]
    assert [step.name for step in after] == ["finetune"]


def _key_with(weights):
    [cell, *_] = _cells(models=[{"name": "resnet18", "weights": str(weights)}])
    return cell.stage(KINDS["train"]).key


def test_weights_are_hashed_and_must_be_there(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    first = (
        _cells(models=[{"name": "resnet18", "weights": str(weights)}])[0].stage(KINDS["train"]).key
    )
    other = tmp_path / "v.safetensors"
    other.write_bytes(b"2")
    second = (
        _cells(models=[{"name": "resnet18", "weights": str(other)}])[0].stage(KINDS["train"]).key
    )
    assert first != second
    with pytest.raises(ModelError, match="cannot read this file"):
        _cells(models=[{"name": "resnet18", "weights": str(tmp_path / "none.pth")}])


def test_the_plan_of_the_embedded_study_is_three_cells():
    from bitladder.study import load

    cells = plan(load())
    assert [cell.name for cell in cells] == [
        f"embedded/shufflenet_v2_x0_5/{bits}" for bits in ("w8a8", "w6a6", "w4a4")
    ]


def test_a_target_that_is_not_installed_is_a_line_and_the_others_have_their_stages(monkeypatch):
    lacking = dataclasses.replace(target_specs.known()["htp"], packages=("no-such-package",))
    known = {**target_specs.known(), "htp": lacking}
    monkeypatch.setattr(target_specs, "known", lambda: known)
    [cell] = _cells(precisions=[8], verify=["onnxruntime", {"htp": {"images": 2}}])
    labels = [stage.label for stage in cell.stages if stage.kind is KINDS["verify"]]
    assert labels == ["verify embedded resnet18 w8a8 on onnxruntime"]
    line = "not measured: htp: HTP emulator is not installed: pip install 'bitladder[qnn]'"
    assert cell.absent == (line,)
    assert CellResult(cell, {}, {}, None).notes == (line,)


def test_grids_fit_the_formats_of_all_targets_of_a_study():
    [plain] = _cells(precisions=[8])
    [fitted] = _cells(precisions=[8], verify=["onnxruntime", "litert"])
    keys = [cell.stage(KINDS["quantize"]).spec["recipe"] for cell in (plain, fitted)]
    assert [next(iter(recipe[0].values()))["targets"] for recipe in keys] == [[], ["litert"]]
