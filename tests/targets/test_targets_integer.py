"""The integer arithmetic is ONNX Runtime's to the last bit, on networks and on random layers."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bitladder import deploy, models, quantize
from bitladder.options import ModelOptions
from bitladder.targets import integer_session, open_target
from small_network import only

RECIPE = ["fold_batch_norm", {"calibrate": {"method": "min_max"}}]


def _compare(path, images):
    session, integer = open_target("onnxruntime", path), integer_session(path)
    assert session.fallbacks == ()
    ours, theirs = only(integer.run(images)), only(session.run(images))
    assert len(np.unique(theirs)) > 4  # not all the same
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("precision", ["w8a8", "w6a6", "w4a8", "w4a4", "w2a3", "w4a4-edges8"])
def test_the_small_network_is_identical(network, images, tmp_path, precision):
    quantized = quantize(network, images, precision, RECIPE)
    path = quantized.export(tmp_path / "m.onnx")
    _compare(path, images.numpy())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("precision", ["w8a8", "w4a4"])
def test_the_networks_of_the_report_are_identical(name, precision, tmp_path):
    torch.manual_seed(0)
    network = models.build(ModelOptions(name=name), classes=10, shapes=[(1, 32, 32)], seed=1)
    images = torch.rand(48, 1, 32, 32)
    network.train()
    with torch.no_grad():
        for _ in range(3):  # statistics of batch norms that keep activations alive
            network(images)
    quantized = quantize(network.eval(), images, precision, RECIPE)
    _compare(quantized.export(tmp_path / "m.onnx"), images.numpy())


@pytest.mark.parametrize("pad", [0, 1])
def test_average_pooling_is_identical(images, tmp_path, pad):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, pad),
        nn.Flatten(),
        nn.Linear(8 * (16 + 9 * pad), 4),
    )
    quantized = quantize(network, images, 8, RECIPE)
    _compare(quantized.export(tmp_path / "m.onnx"), images.numpy())


def test_it_is_the_arithmetic_of_integers_not_the_simulation(network, images, tmp_path):
    """At 8 bit they differ by rounding alone: at most some steps, and not everywhere."""
    quantized = quantize(network, images, 8, RECIPE)
    path = quantized.export(tmp_path / "m.onnx")
    integer = integer_session(path)
    with torch.no_grad():
        found = only(integer.run(images.numpy()))
        steps = np.abs(found - quantized(images).numpy()) / only(integer.steps)
    assert steps.max() <= 3.01


def _layer(path, weight, bias, x_scale, x_zero, y_scale, y_zero, group, stride, pad):
    """A QDQ convolution of uint8 by int8 that sums as the kernels do."""
    w_scale = np.linspace(0.01, 0.02, len(weight)).astype(np.float32)
    tensors = {
        "xs": np.float32(x_scale), "xz": np.uint8(x_zero),
        "w": weight, "ws": w_scale, "wz": np.zeros(len(weight), np.int8),
        "b": bias, "bs": (np.float32(x_scale) * w_scale), "bz": np.zeros(len(weight), np.int32),
        "ys": np.float32(y_scale), "yz": np.uint8(y_zero),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["image", "xs", "xz"], ["xq"]),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        node("Conv", ["xd", "wd", "bd"], ["y"], group=group, strides=[stride] * 2, pads=[pad] * 4),
        node("QuantizeLinear", ["y", "ys", "yz"], ["yq"]),
        node("DequantizeLinear", ["yq", "ys", "yz"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", None, None, None])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None, None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


@settings(max_examples=25)
@given(
    channels=st.sampled_from([1, 3, 8, 300, 700]),
    depthwise=st.booleans(),
    stride=st.sampled_from([1, 2]),
    pad=st.sampled_from([0, 1]),
    zero=st.integers(0, 255),
    seed=st.integers(0, 2**16),
)
def test_convolutions_of_any_size_are_identical(
    tmp_path_factory, channels, depthwise, stride, pad, zero, seed
):
    """With 700 channels of full weights a sum exceeds what float32 holds exactly."""
    generator = np.random.default_rng(seed)
    group = channels if depthwise and channels > 1 else 1
    out = channels if group > 1 else 4
    weight = generator.integers(-128, 128, (out, channels // group, 3, 3)).astype(np.int8)
    bias = generator.integers(-20000, 20000, out).astype(np.int32)
    path = tmp_path_factory.mktemp("layer") / "m.onnx"
    size = 0.02 * 0.02 * 60 * (9 * channels // group) ** 0.5
    _layer(path, weight, bias, 0.02, zero, size, 128, group, stride, pad)
    images = generator.normal(0, 2, (3, channels, 7, 7)).astype(np.float32)
    session, integer = open_target("onnxruntime", path), integer_session(path)
    np.testing.assert_array_equal(only(integer.run(images)), only(session.run(images)))


def _pairs_graph(path, kind, scales, zeros, short):
    """Two quantized inputs, the halves of an image, through one operation that is quantized.

    One of them, ``short``, may have a number for each row only.
    """
    tensors = {"end": np.array([1]), "start": np.array([0]), "axis": np.array([3])}
    node = helper.make_node
    nodes = [node("Split", ["image"], ["whole_a", "whole_b"], axis=1)]
    for name in "ab":
        cut = node("Slice", [f"whole_{name}", "start", "end", "axis"], [name])
        nodes.append(cut if name == short else node("Identity", [f"whole_{name}"], [name]))
    for name, scale, zero in zip("aby", scales, zeros, strict=True):
        tensors |= {f"{name}s": np.float32(scale), f"{name}z": np.uint8(zero)}
        if name == "y":
            nodes.append(
                node(kind, ["ad", "bd"], ["y"], **({"axis": 1} if kind == "Concat" else {}))
            )
        result = "logits" if name == "y" else f"{name}d"
        grid = [f"{name}s", f"{name}z"]
        nodes.append(node("QuantizeLinear", [name, *grid], [f"{name}q"]))
        nodes.append(node("DequantizeLinear", [f"{name}q", *grid], [result]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 256, 256])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None, 256, 256])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("kind", "short"),
    [(k, short) for k in ("Add", "Mul") for short in ("", "a", "b")] + [("Concat", "")],
)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_pair_of_integers_is_identical(tmp_path_factory, kind, short, seed):
    """Among 65,536 pairs some lie next to a tie, where each rounding of the kernel shows."""
    generator = np.random.default_rng(seed)
    scales, zeros = generator.uniform(1e-3, 0.1, 3), generator.integers(0, 256, 3)
    if kind == "Mul":
        scales[2] *= 1000 * scales[0] * scales[1]
    path = tmp_path_factory.mktemp("pairs") / "m.onnx"
    _pairs_graph(path, kind, scales, zeros, short)
    integers = np.stack(np.meshgrid(np.arange(256), np.arange(256)))[None]
    integers = integers[:, ::-1] if short == "a" else integers  # rows differ in what is short
    images = (integers - zeros[:2].reshape(1, 2, 1, 1)) * scales[:2].reshape(1, 2, 1, 1)
    images = images.astype(np.float32)
    session, integer = open_target("onnxruntime", path), integer_session(path)
    np.testing.assert_array_equal(only(integer.run(images)), only(session.run(images)))


def test_layers_that_run_in_float_are_the_runtimes_own(network, images, tmp_path):
    quantized = quantize(network, images, "w8a16", RECIPE)
    path = tmp_path / "m.onnx"
    deploy.Traced(quantized.simulated).write_qdq(path)
    session = open_target("onnxruntime", path, threads=1)
    assert session.fallbacks
    integer = integer_session(path)
    np.testing.assert_array_equal(
        only(integer.run(images.numpy())), only(session.run(images.numpy()))
    )
