"""OpenVINO computes the file's numbers; the reference is ONNX Runtime with exact sums."""

import functools

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bitladder import deploy
from bitladder.errors import TargetError
from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, prepare
from bitladder.simulation.aimet import output_quantizer
from bitladder.targets.onnxruntime_cpu import OnnxRuntimeSession
from bitladder.techniques.fold_batch_norm import fold_batch_norm
from small_network import Branches, split

pytest.importorskip("openvino")
from bitladder.targets.openvino import OpenvinoSession
from bitladder.targets.openvino_form import openvino_form
from bitladder.targets.openvino_integers import IntegerLayers


@pytest.fixture(scope="module")
def images():
    batch, _ = next(iter(split(64, 3).batches(64)))
    return batch


@pytest.fixture(scope="module")
def exported(tmp_path_factory, images):
    """Files of one small network by their precision, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    folded, _ = fold_batch_norm(Branches().eval())

    @functools.cache
    def at(precision):
        return _written(folded, precision, images, folder / f"{precision}.onnx")

    return at


def _written(network, precision, images, path):
    simulated = SimulatedModel(
        network,
        Precision.parse(precision),
        shapes=[tuple(images.shape[1:])],
        options=Calibrate(method="min_max"),
    )
    simulated.calibrate(images)
    deploy.Traced(simulated.eval()).write_qdq(path)
    return path


def _outputs(session, images):
    [values] = session.run(images.numpy()).values()
    return values


@pytest.mark.parametrize(
    ("precision", "lsb"), [("w8a8", 0), ("w4a4", 0), ("w6a6", 0), ("w8a16", 1)]
)
def test_it_computes_what_onnxruntime_does(exported, images, precision, lsb):
    path = exported(precision)
    session = OpenvinoSession(path, threads=1)
    [step] = session.steps.values()
    wanted = _outputs(OnnxRuntimeSession(path, threads=1, precise=True), images)
    made = _outputs(session, images)
    assert np.abs(np.rint((made - wanted) / step)).max() <= lsb
    assert len(np.unique(wanted)) > 4
    if lsb == 0:
        assert np.array_equal(made, wanted)
    assert session.fallbacks == (("3 Convolution computed in float",) if lsb else ())


@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w4a4"])
def test_layers_add_integers_so_that_no_value_near_a_half_falls_to_the_other_side(
    images, tmp_path, monkeypatch, precision
):
    torch.manual_seed(2)
    layers = (nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1, groups=2))
    network = prepare(nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(32, 40, 1)).eval(), (images,))
    path = _written(network, precision, images, tmp_path / "m.onnx")
    wanted = _outputs(OnnxRuntimeSession(path, threads=1, precise=True), images)
    assert np.array_equal(_outputs(OpenvinoSession(path, threads=1), images), wanted)
    monkeypatch.setattr(IntegerLayers, "rounded", lambda *_: None)
    apart = _outputs(OpenvinoSession(path, threads=1), images) != wanted
    if precision == "w8a8":
        assert apart.any()


def test_layers_that_read_one_tensor_may_end_on_grids_of_either_width(images, tmp_path):
    """One of them adds integers, the other does not."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = (
                nn.Conv2d(1, 4, 3),
                nn.Conv2d(4, 4, 1),
                nn.Conv2d(4, 4, 1),
            )

        def forward(self, x):
            x = self.stem(x)
            return self.left(x), self.right(x)

    torch.manual_seed(4)
    network = prepare(Both().eval(), (images,))
    simulated = SimulatedModel(
        network, Precision(8, 8), shapes=[tuple(images.shape[1:])], options=Calibrate()
    )
    output_quantizer(simulated.module.get_submodule("left")).bitwidth = 16
    simulated.calibrate(images)
    deploy.Traced(simulated.eval()).write_qdq(path := tmp_path / "m.onnx")
    session = OpenvinoSession(path, threads=1)
    made, exact = (
        one.run(images.numpy()) for one in (session, OnnxRuntimeSession(path, threads=1))
    )
    for (name, values), step, lsb in zip(made.items(), session.steps.values(), (2, 0), strict=True):
        assert np.abs(np.rint((values - exact[name]) / step)).max() <= lsb


def test_fast_layers_add_integers(exported, images):
    path = exported("w4a4")
    session = OpenvinoSession(path, threads=1, fast=True)
    [step] = session.steps.values()
    wanted = _outputs(OnnxRuntimeSession(path, threads=1, precise=True), images)
    assert np.abs(np.rint((_outputs(session, images) - wanted) / step)).max() <= 2
    assert session.fallbacks == ()


def test_two_pairs_are_one_grid_of_both_bounds():
    scale, pairs = np.float32(0.5), (("a", np.uint8(3)), ("b", np.int8(115)))
    nodes, source = [], "x"
    tensors = [numpy_helper.from_array(scale, "s")]
    for name, zero in pairs:
        tensors.append(numpy_helper.from_array(zero, f"z{name}"))
        nodes += [
            helper.make_node("QuantizeLinear", [source, "s", f"z{name}"], [f"q{name}"]),
            helper.make_node("DequantizeLinear", [f"q{name}", "s", f"z{name}"], [name]),
        ]
        source = name
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("x", "b")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    made = openvino_form(helper.make_model(graph), clipped=False)
    [node] = made.graph.node
    held = {
        one.name: float(numpy_helper.to_array(one))
        for one in made.graph.initializer
        if not one.dims
    }
    assert [held[name] for name in node.input[1:]] == [-1.5, 6.0, -1.5, 6.0]
    assert helper.get_node_attr_value(node, "levels") == 16


def test_more_or_fewer_inputs_are_refused(exported, images):
    session = OpenvinoSession(exported("w8a8"), threads=1)
    with pytest.raises(TargetError, match="takes 1 inputs, not 2"):
        session.run(images.numpy(), images.numpy())


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "no.onnx"
    path.write_text("no")
    with pytest.raises(TargetError, match="not an ONNX file"):
        OpenvinoSession(path)
    onnx.save(onnx.ModelProto(), path)
    with pytest.raises(TargetError, match="OpenVINO refuses it"):
        OpenvinoSession(path)
