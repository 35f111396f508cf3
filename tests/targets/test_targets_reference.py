"""The integer arithmetic against one that shares no code with it; a wrong file is never equal."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bitladder import quantize, targets
from bitladder.deploy import Traced
from reference.integer_numpy import Reference
from reference.networks import NETWORKS, make
from small_network import only

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


def _files(network, images, folder, precision, **options):
    """The reference's logits, the reference, and the path of the QDQ file."""
    quantized = quantize(network, images, precision, RECIPE)
    traced = Traced(quantized.simulated)
    traced.write_float(folder / "float.onnx", folder / "encodings.json")
    traced.write_qdq(folder / "model.onnx", **options)
    reference = Reference(folder / "float.onnx", folder / "encodings.json")
    return reference.run(images.numpy()), reference, folder / "model.onnx"


def _runtime(path, images):
    return only(targets.open_precise("onnxruntime", path).run(images.numpy()))


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a8", "w4a4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_both_implementations_and_the_runtime_give_every_value(name, precision, tmp_path):
    network, images = make(name, seed=0)
    weights = "auto" if precision == "w8a8" else "int8"
    expected, reference, path = _files(network, images, tmp_path, precision, weights=weights)
    assert reference.overflows == {}
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(_runtime(path, images), expected)
    integer = only(targets.integer_session(path).run(images.numpy()))
    np.testing.assert_array_equal(integer, expected)


def _change(path, change):
    """Let ``change`` replace initializers, by name, and write the file anew."""
    model = onnx.load(path)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, value in change(model.graph, tensors).items():
        [there] = [t for t in model.graph.initializer if t.name == name]
        there.CopyFrom(numpy_helper.from_array(value.astype(tensors[name].dtype), name))
    onnx.save(model, path)


def _layers(graph):
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "Conv":
            yield [makers[name] for name in node.input]


def _bias_scale_widened_alone(graph, tensors):
    """In a channel without weights, whose scale is then not what the bias's integers stand for.

    Kernels add a bias's integers and never read its scale.
    """
    _, weight, _ = next(_layers(graph))
    scales = tensors[weight.input[1]].copy()
    assert not tensors[weight.input[0]][1].any()
    scales[1] /= 1000
    return {weight.input[1]: scales}


def _wrapped_zero_point(graph, tensors):
    """A grid that does not hold zero, its zero point taken modulo 256."""
    data = list(_layers(graph))[1][0]
    return {data.input[2]: (tensors[data.input[2]].astype(int) - 20) % 256}


def _one_weight_off(graph, tensors):
    _, weight, _ = next(_layers(graph))
    integers = tensors[weight.input[0]].copy()
    integers.flat[0] += 1 if integers.flat[0] < 0 else -1
    return {weight.input[0]: integers}


def _scales_of_another_channel(graph, tensors):
    _, weight, bias = next(_layers(graph))
    return {name: np.roll(tensors[name], 1) for name in (weight.input[1], bias.input[1])}


def _bias_off_by_a_step_of_the_output(graph, tensors):
    _, _, bias = next(_layers(graph))
    return {bias.input[0]: tensors[bias.input[0]] + 300}


def _three_layers(middle, dead=False):
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3)
    if dead:
        with torch.no_grad():
            first.weight[1] = 0
            first.bias[1] = 2.5
    return nn.Sequential(first, middle, nn.Conv2d(4, 3, 3), nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("fault", "dead"),
    [
        (_bias_scale_widened_alone, True),
        (_wrapped_zero_point, False),
        (_one_weight_off, False),
        (_scales_of_another_channel, False),
        (_bias_off_by_a_step_of_the_output, False),
    ],
)
def test_a_wrong_file_equals_itself_but_not_the_reference(fault, dead, tmp_path):
    """Arithmetic that is read off the file follows it into every fault."""
    network, images = _three_layers(nn.Identity(), dead), torch.rand(32, 1, 10, 10)
    expected, _, path = _files(network, images, tmp_path, "w8a8")
    np.testing.assert_array_equal(_runtime(path, images), expected)
    _change(path, fault)
    wrong = _runtime(path, images)
    np.testing.assert_array_equal(only(targets.integer_session(path).run(images.numpy())), wrong)
    assert (wrong != expected).mean() > 0.01


@pytest.mark.parametrize(
    "network",
    [
        _three_layers(nn.Identity(), dead=True),
        _three_layers(nn.Hardtanh(-1, 1)),
        _three_layers(nn.ReLU(), dead=True),
        _three_layers(nn.Hardtanh(0.1, 1)),
        _three_layers(nn.Hardtanh(-1, -0.1)),
    ],
    ids=["dead", "bounds around zero", "dead before ReLU", "bounds above", "bounds below"],
)
def test_hard_cases_are_what_the_encodings_say(network, tmp_path):
    """A channel without weights whose bias is large; bounds that leave out zero."""
    images = torch.rand(32, 1, 10, 10)
    expected, reference, path = _files(network, images, tmp_path, "w8a8")
    assert reference.overflows == {}
    np.testing.assert_array_equal(_runtime(path, images), expected)


def test_a_bias_that_no_int32_holds_is_seen(tmp_path):
    """The encodings of a channel without weights have a scale that its bias does not fit."""
    network = _three_layers(nn.Identity(), dead=True)
    _files(network, torch.rand(8, 1, 10, 10), tmp_path, "w8a8")
    encodings = tmp_path / "encodings.json"
    reference = Reference(tmp_path / "float.onnx", encodings)
    [(layer, weight)] = [
        (node.output[0], node.input[1])
        for node in reference.graph.node
        if node.op_type == "Conv" and node.input[0] == "input"
    ]
    reference.grids[weight].scale[1] = 1e-9
    reference.run(np.zeros((1, 1, 10, 10), np.float32))
    assert list(reference.overflows) == [layer]
    scale = reference.grids["input"].scale * np.float32(1e-9)
    assert reference.overflows[layer] == pytest.approx(2.5 / scale, rel=1e-4)
