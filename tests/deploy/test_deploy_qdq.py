"""Narrow grids in wider containers: two saturating quantizers are one narrow one, exactly."""

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy import Encoding, quantize_graph
from bitladder.deploy.qdq import integer_biases


@st.composite
def encodings(draw):
    bits = draw(st.integers(2, 16))
    signed = draw(st.booleans())
    low = -(2 ** (bits - 1)) if signed else 0
    zero_point = draw(st.integers(low, low + 2**bits - 1))
    scale = np.float32(draw(st.floats(2**-12, 2**6)))
    return Encoding("x", bits, signed, scale, np.asarray(zero_point, np.int64), None)


@settings(max_examples=60, deadline=None)
@given(encodings(), st.integers(0, 2**32 - 1))
def test_an_activation_of_any_width_is_its_grid_in_the_optimised_runtime(encoding, seed):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    written = quantize_graph(model, {"x": encoding})
    session = onnxruntime.InferenceSession(
        written.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    reach = float(encoding.scale) * 2**encoding.bits
    values = np.random.default_rng(seed).uniform(-reach, reach, 500).astype(np.float32)
    [found] = session.run(None, {"x": values})
    integers = np.clip(
        np.rint(values / encoding.scale) + encoding.zero_point,
        encoding.integer_min,
        encoding.integer_max,
    )
    expected = (integers - encoding.zero_point).astype(np.float32) * encoding.scale
    assert np.array_equal(found, expected)


def test_a_bias_stands_for_integers_unless_layers_with_other_grids_share_it():
    names = ("first", "second", "third")
    layers = [
        helper.make_node("Gemm", ["x", weight, bias], [f"{weight}_out"])
        for weight, bias in zip(names, ("own", "shared", "shared"), strict=True)
    ]
    values = {name: np.eye(2, dtype=np.float32) for name in names}
    values |= {name: np.array([0.3, -0.07], np.float32) for name in ("own", "shared")}
    graph = helper.make_graph(
        [*layers, helper.make_node("Sum", [f"{name}_out" for name in names], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    scales = {"x": 0.5, "first": 0.25, "second": 0.25, "third": 0.125}
    grids = {
        name: Encoding(name, 8, True, np.float32(scale), np.zeros((), np.int64), None)
        for name, scale in scales.items()
    }
    found = integer_biases(model, grids)
    assert found.keys() == {"own"}
    assert found["own"].tolist() == [0.25, -0.125]  # of 0.5 * 0.25
