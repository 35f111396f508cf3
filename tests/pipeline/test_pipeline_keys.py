"""A key changes with all that its stage's numbers come from, and a stage sees that it holds."""

import json

import pytest

from bitladder.errors import ModelError, StudyError
from bitladder.options import Options, TrainOptions
from bitladder.pipeline import planning
from bitladder.pipeline.given import Given, check
from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import build, plan
from bitladder.study import Study

NET = "def net(num_classes):\n    return {}\n"
RECIPE = ["fold_batch_norm", {"calibrate": {"config": "own.json"}}, "finetune"]


def _cell(**changes):
    study = {
        "name": "s", "datasets": ["embedded"], "models": ["key_nets:net"], "precisions": [8],
        "recipe": ["fold_batch_norm", "calibrate", "finetune"], **changes,
    }  # fmt: skip
    [cell] = build(Study.model_validate(study), dict.fromkeys(study["datasets"], "f"), ())
    return cell


def _keys(**changes):
    return {stage.kind.name: stage.key for stage in _cell(**changes).stages}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a function, what it imports, and a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key_nets.py").write_text("from key_layers import WIDTH\n" + NET.format(1))
    (tmp_path / "key_layers.py").write_text("WIDTH = 8\n")
    (tmp_path / "own.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("edited", ["key_nets.py", "key_layers.py"])
def test_an_edited_network_makes_every_stage_anew(folder, edited):
    before = _keys()
    text = (folder / edited).read_text()
    (folder / edited).write_text(text + "# another\n")
    after = _keys()
    assert all(before[kind] != after[kind] for kind in before)
    (folder / edited).write_text(text)
    assert _keys() == before


def test_a_function_that_makes_a_data_set_counts_too(folder):
    keys = []
    for number in (1, 2):
        (folder / "own_data.py").write_text(NET.format(number).replace("num_classes", ""))
        keys.append(_keys(datasets=["own_data:net"], models=["resnet18"])["train"])
    assert keys[0] != keys[1]


def test_the_bytes_of_a_config_count_from_the_stage_on_that_reads_it(folder):
    before = _keys(recipe=RECIPE)
    (folder / "own.json").write_text("[]")
    after = _keys(recipe=RECIPE)
    assert before["train"] == after["train"]
    assert all(before[kind] != after[kind] for kind in before if kind != "train")
    (folder / "own.json").unlink()
    with pytest.raises(StudyError, match=r"calibrate\.config: unknown config 'own\.json'.*no such"):
        _keys(recipe=RECIPE)


@pytest.mark.parametrize("config", ["htp_v73", "default", "htp_quantsim_config_v73.json"])
def test_a_config_of_aimet_is_no_file_of_the_user_s(folder, config):
    cell = _cell(recipe=["fold_batch_norm", {"calibrate": {"config": config}}])
    assert list(cell.stage(KINDS["quantize"]).given) == ["function key_nets:net"]
    assert "aimet-torch" in cell.stage(KINDS["quantize"]).versions


def test_a_config_that_is_neither_a_name_nor_a_file_is_one_line(folder):
    with pytest.raises(StudyError, match=r"did you mean 'htp_v79'.*no such file"):
        _keys(recipe=["fold_batch_norm", {"calibrate": {"config": "htp_v99"}}])


class _Later(Options):
    """Options that nobody has thought of yet."""

    lookup: str | None = None
    tables: tuple[str, ...] = ()
    build: str = "none"
    inner: TrainOptions | None = None
    nested: "_Later | None" = None


@pytest.mark.parametrize(
    "options",
    [
        _Later(lookup="own.json"),
        _Later(tables=("own.json",)),
        _Later(nested=_Later(lookup="own.json")),
        _Later(build="key_nets:net"),
    ],
    ids=["a text", "a list", "nested", "a function"],
)
def test_an_option_that_is_added_later_is_found(folder, options):
    before = Given().of([options])
    (folder / "own.json").write_text("[1]")
    (folder / "key_layers.py").write_text("WIDTH = 16\n")
    after = Given().of([options])
    assert len(before) == 1
    assert before.keys() == after.keys()
    assert before != after


def test_a_later_option_s_missing_file_is_one_line(folder):
    with pytest.raises(StudyError, match=r"nested\.lookup none\.npz: cannot read this file"):
        Given().of([_Later(nested=_Later(lookup="none.npz"))])


def test_an_option_may_name_a_folder(folder):
    (folder / "tables").mkdir()
    hashes = []
    for text in ("1", "2"):
        (folder / "tables" / "a").write_text(text)
        hashes.append(Given().of([_Later(lookup="tables")])["file tables"])
    assert hashes[0] != hashes[1]
    (folder / "default").mkdir()
    with pytest.raises(StudyError, match=r"calibrate\.config default: this is a folder"):
        _keys()


def test_weights_are_read_again_in_the_same_process(folder):
    (folder / "w.pth").write_bytes(b"1")
    entry = {"name": "resnet18", "weights": "w.pth"}
    before = _keys(models=[entry])
    (folder / "w.pth").write_bytes(b"2")
    assert before["train"] != _keys(models=[entry])["train"]
    (folder / "w.pth").unlink()
    with pytest.raises(ModelError, match=r"weights w\.pth: cannot read this file: it is not there"):
        _keys(models=[entry])


def test_a_version_is_part_of_the_key_and_ends_the_notice(folder):
    (folder / "key_layers.py").write_text("import importlib, sys\n"
        "WIDTH = len(sys.argv) and importlib.import_module(sys.argv[0])\n")  # fmt: skip
    [line] = _cell().unseen
    assert "'key_nets:net': changes cannot be seen (key_layers.py, line 2" in line
    assert "'version:'" in line
    assert "\n" not in line
    cells = [_cell(models=[{"name": "key_nets:net", "version": given}]) for given in (1, "1", 2)]
    assert [cell.unseen for cell in cells] == [(), (), ()]
    keys = [cell.stage(KINDS["train"]).key for cell in cells]
    assert keys[0] == keys[1] != keys[2]


def test_the_version_of_a_data_set_is_part_of_the_key(folder):
    keys = set()
    for version in (None, 1, 2):
        study = Study.model_validate(
            {"name": "s", "models": ["resnet18"], "datasets": [{"version": version}]}
        )
        keys.add(plan(study)[0].stage(KINDS["train"]).key)
    assert len(keys) == 3


def test_a_store_of_before_is_not_taken_for_current(folder, monkeypatch):
    now = _keys()
    monkeypatch.setattr(planning, "_KEYS", planning._KEYS - 1)
    assert not set(now.values()) & set(_keys().values())


def test_a_stage_sees_that_what_its_key_names_is_as_it_was(folder):
    given = _cell(recipe=RECIPE).stage(KINDS["quantize"]).given
    assert set(given) == {"function key_nets:net", "file own.json"}
    check(given)
    (folder / "own.json").write_text(json.dumps([1]))
    with pytest.raises(StudyError, match=r"file own\.json: it is not what it was when the run beg"):
        check(given)
    (folder / "own.json").unlink()
    with pytest.raises(StudyError, match="it was there when the run began"):
        check(given)
    (folder / "own.json").write_text("{}")
    (folder / "key_layers.py").write_text("WIDTH = 16\n")
    with pytest.raises(StudyError, match="function key_nets:net: it is not what it was"):
        check(given)
