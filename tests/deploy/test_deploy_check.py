"""A file is refused where it computes something else, and not where one value ties."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from bitladder.deploy import Traced
from bitladder.deploy.check import CHECKED, run_at_two_sizes
from bitladder.errors import ExportError
from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel
from bitladder.techniques.fold_batch_norm import fold_batch_norm


def _unoptimised():
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _file(*nodes):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


FILE = _file(helper.make_node("Relu", ["x"], ["y"]))
MOSTLY_ZERO = np.full((CHECKED, 100), -1.0, np.float32)
MOSTLY_ZERO[1, 7] = 1e-7


def test_one_value_that_ties_is_no_other_network():
    def simulation(x):
        made = np.maximum(x, 0)
        if len(made) == CHECKED:
            made[1, 7], made[2, 9] = 0.0, 1e-7
        return [made]

    run_at_two_sizes(FILE, (MOSTLY_ZERO,), simulation, compared=True)


@pytest.mark.parametrize(
    ("simulation", "said"),
    [
        (lambda x: [np.abs(x)], "computes something else than the simulation"),
        (lambda x: [np.maximum(x, 0)[:, :50]], r"gives \[3, 100\] where the network gives"),
    ],
)
def test_what_is_another_network_is_refused(simulation, said):
    images = np.random.default_rng(0).normal(size=(CHECKED, 100)).astype(np.float32)
    with pytest.raises(ExportError, match=said):
        run_at_two_sizes(FILE, (images,), simulation, compared=True)


def test_what_answers_by_the_batch_is_refused():
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1)
    file = _file(mean, helper.make_node("Sub", ["x", "m"], ["y"]))
    images = np.random.default_rng(0).normal(size=(CHECKED, 100)).astype(np.float32)
    with pytest.raises(ExportError, match="answers by the number of images"):
        run_at_two_sizes(file, (images,), lambda x: [x], compared=False)
    assert onnx.checker.check_model(file) is None


class _Cancelled(nn.Module):
    """Large weights that cancel: all that is left is a bias below half a step of its grid."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([7.0, -7.0]).reshape(1, 2, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.45, 0.3, -0.4]))

    def forward(self, x):
        return self.conv(torch.cat([x, x], 1))


def test_a_file_is_held_to_the_simulation_with_the_biases_of_the_file(tmp_path):
    folded, _ = fold_batch_norm(_Cancelled().eval())
    simulated = SimulatedModel(folded, Precision(4, 4), shapes=[(1, 4, 4)], options=Calibrate())
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    simulated.calibrate(images)
    layer = simulated.module.get_submodule("conv")
    before = layer.bias.detach().clone()
    Traced(simulated.eval()).write_qdq(tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", _unoptimised())
    [file] = session.run(None, {"x": images.numpy()})
    np.testing.assert_array_equal(file, np.zeros_like(file))  # 0.45 of a step of 1 rounds to none
    np.testing.assert_array_equal(layer.bias.detach(), before)
