"""Targets: what cannot run is told, and the comparison counts what a hand would count."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from bitladder.data.splits import TensorSplit
from bitladder.errors import TargetError
from bitladder.target_specs import known
from bitladder.targets import compare, open_target
from bitladder.tasks import find
from small_network import only

TASK = find("classification")


def _file(path, kind="Identity"):
    graph = helper.make_graph(
        [helper.make_node(kind, ["image"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, 2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_an_unknown_target_is_told_with_the_nearest(tmp_path):
    with pytest.raises(TargetError, match="did you mean 'onnxruntime'"):
        open_target("onnxruntim", tmp_path / "m.onnx")


@pytest.mark.parametrize("name", known())
def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for path in (tmp_path / "m.onnx", tmp_path / "none.onnx"):
        with pytest.raises(
            TargetError, match=r"refuses it|not an ONNX file|it is not there"
        ) as raised:
            open_target(name, path)
        assert "\n" not in str(raised.value)


def test_images_of_another_shape_are_told(tmp_path):
    session = open_target("onnxruntime", _file(tmp_path / "m.onnx"))
    with pytest.raises(TargetError, match=r"ONNX Runtime: .*image"):
        only(session.run(np.zeros((3, 2), np.float32)))


def test_a_float_layer_is_a_fallback(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["image", "w"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    session = open_target("onnxruntime", tmp_path / "m.onnx")
    assert session.fallbacks == ("1 Gemm computed in float",)
    assert session.steps == {}


class Given:
    """A target that answers what it was given."""

    def __init__(self, logits, lsb):
        self.logits, self.fallbacks, self.at = logits, (), 0
        self.steps = {} if lsb is None else {"output": lsb}

    def run(self, images):
        part = self.logits[self.at : self.at + len(images)]
        self.at += len(images)
        return {"output": part}

    def close(self):
        pass


class Fixed(nn.Module):
    """A simulation whose logits are its images."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return images[:, 0, 0] * 255


def _split():
    pixels = torch.tensor([[9, 1, 2], [1, 9, 2], [1, 2, 9], [4, 4, 9]], dtype=torch.uint8)
    return TensorSplit(pixels[:, None, None], torch.tensor([0, 1, 2, 0]))


def test_the_comparison_counts_what_a_hand_would_count():
    target = np.array([[9, 1, 2], [8, 3, 2], [1, 2, 8.5], [4, 4, 9]], np.float32)
    found = compare(Given(target, 0.5), Fixed(), _split().batches(3), TASK)
    assert found.quality.scores == (1, 0, 1, 0)
    assert found.simulation.scores == (1, 1, 1, 0)
    assert found.agreement.scores == (1, 0, 1, 1)
    assert found.equal.scores == (1, 0, 0, 1)
    assert found.apart == (1,)
    assert found.worst_lsb == pytest.approx(14)  # 1 against 8, in steps of 0.5
    assert found.mean_lsb == pytest.approx((7 + 6 + 0.5) / 0.5 / 12)


def test_logits_of_another_shape_are_an_error():
    with pytest.raises(TargetError, match=r"'output' is \(4, 2\), the simulation's \(4, 3\)"):
        compare(Given(np.zeros((4, 2), np.float32), None), Fixed(), _split().batches(4))


def test_the_last_batch_s_images_are_numbered_over_all():
    target = np.array([[9, 1, 2], [1, 9, 2], [1, 2, 9], [9, 4, 4]], np.float32)
    assert compare(Given(target, None), Fixed(), _split().batches(3), TASK).apart == (3,)
