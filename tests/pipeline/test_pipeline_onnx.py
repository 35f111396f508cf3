"""A study of an ONNX file: its bytes are in the keys, and its own weights are measured."""

import onnx
import onnxruntime
import pytest
import torch

import bitladder
from bitladder import data
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline.planning import plan
from bitladder.pipeline.stage_records import TrainRecord
from bitladder.study import Study
from small_network import Branches


def _keys(path):
    study = {"name": "s", "datasets": ["embedded"], "models": [str(path)], "precisions": [8]}
    [cell] = plan(Study.model_validate(study))
    return {stage.key for stage in cell.stages}


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "net.onnx"
    torch.onnx.export(Branches(10).eval(), torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    return path


def test_another_file_of_the_same_name_is_another_network(path):
    before = _keys(path)
    assert _keys(path) == before
    model = onnx.load(path)
    model.doc_string = "another"
    onnx.save(model, path)
    assert not _keys(path) & before


def test_its_own_weights_are_the_float_network(path, tmp_path):
    datasets = [{"name": "embedded", "train": 200, "validation": 200}]
    content = {"name": "s", "datasets": datasets, "models": [str(path)], "precisions": [8]}
    content["recipe"] = ["fold_batch_norm", {"calibrate": {"method": "min_max", "images": 100}}]
    options = bitladder.RunOptions(
        output=tmp_path / "out", store=tmp_path / "store", in_process=True
    )
    study = Study.model_validate(content)
    [cell] = bitladder.run(study, options=options, progress=False).cells
    assert cell.error is None
    assert cell.record(TrainRecord).epochs == 0
    loaded = data.load(DatasetOptions(**datasets[0]), LoaderOptions(), seed=1)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    right = 0
    for images, labels in loaded.validation.batches(1):
        [logits] = session.run(None, {given.name: images.numpy()})
        right += int(logits.argmax() == int(labels))
    float_quality = cell.rungs[0].quality
    assert (sum(float_quality.scores), float_quality.count) == (right, 200)
    assert cell.verified["onnxruntime"].comparison.agreement.value > 0.95
