"""A study of an ONNX file: the bytes of the file are in its keys."""

import onnx
import torch

from bitladder.pipeline.graph import plan
from bitladder.study import Study
from small_network import Branches


def _keys(path):
    study = {"name": "s", "datasets": ["embedded"], "models": [str(path)], "precisions": [8]}
    [cell] = plan(Study.model_validate(study))
    return {stage.key for stage in cell.stages}


def test_another_file_of_the_same_name_is_another_network(tmp_path):
    path = tmp_path / "net.onnx"
    torch.onnx.export(Branches().eval(), torch.zeros(1, 1, 32, 32), str(path), dynamo=False)
    before = _keys(path)
    assert _keys(path) == before
    model = onnx.load(path)
    model.doc_string = "another"
    onnx.save(model, path)
    assert not _keys(path) & before
