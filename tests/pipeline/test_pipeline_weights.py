"""Studies that start from checkpoints: taken as they are, or trained on with a new last layer."""

import pandas
import pytest
import torch
from safetensors.torch import load_file

from bitladder import data, models, training
from bitladder.errors import ModelError, StudyError
from bitladder.options import DatasetOptions, LoaderOptions, ModelOptions, TrainOptions
from bitladder.pipeline import RunOptions, run
from bitladder.pipeline.curves import MEASURES
from bitladder.pipeline.datasets import fingerprint_of
from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import build, plan
from bitladder.pipeline.stages.common import Workspace
from bitladder.pipeline.stages.train import train
from bitladder.store import Store
from bitladder.study import Study, load
from bitladder.tasks import find
from small_study import NETWORK, Recorder

DATASET = {"name": "embedded", "train": 1000, "validation": 200}
NET = "small_nets:net"
CHANGES = "def make():\n    return lambda image, target: ({}image, target)\n"


def study(entry, **changes):
    content = {
        "name": "s",
        "datasets": [DATASET],
        "models": [{"name": NET, **entry}],
        "precisions": [8],
        "recipe": [
            "fold_batch_norm",
            {"calibrate": {"images": 100, "method": "min_max"}},
            {"finetune": {"steps": 2, "batch_size": 50, "lr": 1e-5}},
        ],
        **changes,
    }
    return Study.model_validate(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network of 12 classes that knows the 10 of the images, in a wrapper."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "small_nets.py").write_text(NETWORK)
        images = data.load(DatasetOptions(**DATASET), LoaderOptions(), seed=1)
        for classes in (10, 12):
            model = models.build(
                ModelOptions(name=NET), classes=classes, shapes=images.shapes, seed=7
            )
            options = TrainOptions(steps=60, batch_size=100, lr=1e-2, early_stopping=None)
            training.fit(
                model, images.train, None, options, find("classification"), seed=2,
                log_dir=folder / "logs",
            )  # fmt: skip
            wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
            torch.save({"model": wrapped, "epoch": 3}, folder / f"{classes}.pth.tar")
    return folder


def float_stage(content, folder):
    """What the stage that makes the float network tells, and the network's tensors."""
    images = data.load(content.datasets[0], LoaderOptions(), seed=content.seed)
    [cell] = build(content, {"embedded": fingerprint_of(images)}, ())
    stage = cell.stage(KINDS["train"])
    output = folder / stage.key
    output.mkdir()
    store = Store(folder / "store")
    store.scratch(stage.key)
    record = train(stage, Workspace(store, LoaderOptions(), output))
    return record, load_file(output / "weights.safetensors")


def state_of(path):
    state = torch.load(path, weights_only=True)["model"]
    return {name.removeprefix("module."): value for name, value in state.items()}


def test_a_checkpoint_is_the_float_network_and_the_run_says_what_was_taken(
    folder, monkeypatch, tmp_path
):
    monkeypatch.chdir(folder)
    record, state = float_stage(study({"weights": "10.pth.tar"}), tmp_path)
    assert record.steps == 0
    said = "14 tensors under 'model', without the prefix 'module.'"
    assert record.notes[-1] == f"weights from 10.pth.tar: {said}"
    expected = state_of("10.pth.tar")
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    images = data.load(DatasetOptions(**DATASET), LoaderOptions(), seed=1)
    model = models.build(ModelOptions(name=NET), classes=10, shapes=images.shapes, seed=9)
    model.load_state_dict(expected)
    found = training.evaluate(model, images.validation.batches(100), find("classification"))
    assert record.rungs[0].quality == found


BUDGET = {"steps": 12, "batch_size": 50, "lr": 4e-3, "early_stopping": None}


def test_training_starts_from_a_checkpoint_of_other_classes(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    entry = {"weights": "12.pth.tar"}
    with pytest.raises(ModelError, match="of other classes; to train a new last layer: 'train: "):
        float_stage(study(entry, train=BUDGET), tmp_path)
    options = {"from": "weights", **BUDGET, "accumulate": 2}
    record, state = float_stage(study(entry, train=options), tmp_path)
    assert record.steps == 12
    assert record.notes[-1].endswith("; a new last layer: 8")
    assert state["8.weight"].shape == (10, 256)
    begin, steps = state_of("12.pth.tar"), 12 * BUDGET["lr"]
    body = [name for name in begin if name.endswith("weight") and not name.startswith("8.")]
    assert len(body) == 4
    for name in body:  # a step of Adam is about its learning rate
        assert 0 < float((state[name] - begin[name]).abs().max()) < 2 * steps
    anew, _ = float_stage(study({}, train={**BUDGET, "accumulate": 2}), tmp_path)
    assert record.rungs[0].quality.value > anew.rungs[0].quality.value + 0.05


def test_a_study_runs_from_a_checkpoint(folder, monkeypatch, tmp_path):
    """Its training is too short to be validated on the way; the curves say so by empty columns."""
    monkeypatch.chdir(folder)
    (folder / "changes.py").write_text(CHANGES.format(""))
    options = RunOptions(output=tmp_path / "out", store=tmp_path / "store", in_process=True)
    recipe = [
        "fold_batch_norm",
        {"calibrate": {"images": 100, "method": "min_max"}},
        {"finetune": {"steps": 2, "batch_size": 50, "lr": 1e-5, "augment": "changes:make"}},
    ]
    content = study({"weights": "10.pth.tar"}, recipe=recipe)
    [cell] = run(content, options=options, observer=Recorder()).cells
    assert cell.error is None
    assert any(note.startswith("weights from 10.pth.tar: 14 tensors") for note in cell.notes)
    techniques = [rung.technique for rung in cell.rungs]
    assert techniques == ["float", "fold_batch_norm", "calibrate", "finetune", "integer_biases"]
    table = pandas.read_csv(tmp_path / "out" / "curves.csv")
    assert set(MEASURES) <= set(table.columns)
    assert table["val_quality"].isna().all()


def test_the_start_and_what_changes_images_are_in_the_keys(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "changes.py").write_text(CHANGES.format(""))
    entry = {"weights": "12.pth.tar"}

    def keys(**changes):
        [cell] = plan(study(entry, **changes))
        return [stage.key for stage in cell.stages]

    own = {"from": "weights", "augment": "changes:make"}
    variants = [{}, {"from": "weights"}, {"augment": "standard"}, {"accumulate": 2}, own]
    found = [keys(train=one) for one in variants]
    (folder / "changes.py").write_text(CHANGES.format("-"))
    found.append(keys(train=own))
    content = (folder / "12.pth.tar").read_bytes()
    (folder / "12.pth.tar").write_bytes(content + b"0")
    found.append(keys(train=own))
    (folder / "12.pth.tar").write_bytes(content)
    for stages in zip(*found, strict=True):  # each stage of every variant is another
        assert len(set(stages)) == len(found)


def test_what_changes_images_of_fine_tuning_counts_from_there_on(folder, monkeypatch):
    monkeypatch.chdir(folder)
    tuning = {"finetune": {"steps": 2, "augment": "changes:make"}}
    recipe = ["fold_batch_norm", "calibrate", tuning]
    stages = []
    for sign in ("", "-"):
        (folder / "changes.py").write_text(CHANGES.format(sign))
        [cell] = plan(study({}, recipe=recipe))
        stages.append({stage.kind: stage.key for stage in cell.stages})
    same = {kind.name for kind in stages[0] if stages[0][kind] == stages[1][kind]}
    assert same == {"train", "quantize"}
    assert KINDS["finetune"] in stages[0]


def test_a_folder_of_the_name_of_an_option_is_no_file_of_it(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"1")
    (tmp_path / "small_nets.py").write_text(NETWORK)
    entry = {"weights": "w.pth", "weights_key": "ema"}
    before = plan(study(entry, train={"augment": "standard"}))[0].keys
    for name in ("standard", "ema", "weights"):
        (tmp_path / name).mkdir()
    assert plan(study(entry, train={"augment": "standard"}))[0].keys == before


def test_a_network_without_weights_cannot_start_from_them():
    with pytest.raises(ValueError, match=r"train\.from: 'small_nets:net' has no weights to start"):
        study({}, train={"from": "weights"})
    assert study({"pretrained": True}, train={"from": "weights"}).train.start == "weights"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.augment=mirror"], "unknown augmentation 'mirror'"),
        (["train.accumulate=0"], "train.accumulate"),
        (["train.from=scratch"], "train.from"),
        (["train.form=weights"], "did you mean 'from'"),
        (["models=[{name: resnet18, weights_key: ema}]"], "give weights"),
        (["recipe=[fold_batch_norm,calibrate,{finetune: {augment: x}}]"], "unknown augmentation"),
    ],
)
def test_options_that_are_wrong_are_one_line(overrides, message):
    with pytest.raises(StudyError, match=message) as caught:
        load(None, overrides)
    assert "\n" not in str(caught.value)


def test_a_study_with_them_survives_being_written(tmp_path):
    content = study(
        {"weights": "a.pth", "weights_key": "ema"},
        train={"from": "weights", "accumulate": 4, "augment": "changes:make"},
    )
    (tmp_path / "s.yaml").write_text(content.to_yaml())
    assert load(tmp_path / "s.yaml") == content


def test_an_onnx_file_is_trained_where_that_is_asked_for(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    model = models.build(ModelOptions(name=NET), classes=10, shapes=[(1, 32, 32)], seed=1)
    model.load_state_dict(state_of("10.pth.tar"))
    path = tmp_path / "net.onnx"
    torch.onnx.export(model.eval(), torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    budget = {**BUDGET, "steps": 2, "lr": 1e-4}
    record, trained = float_stage(study({}, models=[str(path)], train=budget), tmp_path)
    assert record.steps == 0
    begin = trained["8.weight"]
    budget["from"] = "weights"
    record, trained = float_stage(study({}, models=[str(path)], train=budget), tmp_path)
    assert record.steps == 2
    end = trained["8.weight"]
    assert 0 < float((end - begin).abs().max()) < 4e-4


def test_code_behind_a_transform_that_cannot_be_seen_is_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = "import importlib, sys\nhidden = importlib.import_module(sys.argv[0])\n"
    (folder / "changes.py").write_text(source + CHANGES.format(""))
    [cell] = plan(study({}, train={"augment": "changes:make"}))
    assert any("'changes:make': changes cannot be seen" in line for line in cell.unseen)
    [cell] = plan(study({}, train={"augment": "changes:make", "version": 1}))
    assert not cell.unseen
