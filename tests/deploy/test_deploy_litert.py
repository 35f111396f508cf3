"""Each operator of a .tflite against ONNX Runtime, on random integers written by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.litert import parse_tflite, read_tflite, translate, write_tflite
from bitladder.deploy.litert.builder import nibbles
from bitladder.errors import ExportError
from bitladder.targets import open_precise, open_target, open_unfused
from targets.integer_graphs import Graph

pytest.importorskip("ai_edge_litert")

SHAPE = (4, 8, 9, 10)
EXACT, ONE_STEP = 0, 1


def _model(graph, output):
    nodes = [*graph.nodes, helper.make_node("Identity", [output], ["logits"])]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *graph.shape[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in graph.tensors.items()],
    )
    imports = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=imports, ir_version=10)


def _conv(graph, count=12, group=1, **attributes):
    x = graph.given()
    weight = graph.weight((count, SHAPE[1] // group, 3, 3), 0, np.int8)
    inputs = [x, weight, graph.bias(weight, count, 20000)]
    return graph.output(graph.op("Conv", *inputs, group=group, **attributes), 40)


def _transposed(graph, **attributes):
    x = graph.given()
    weight = graph.weight((SHAPE[1], 6, 3, 3), 1, np.int8)
    inputs = [x, weight, graph.bias(weight, 6, 20000)]
    return graph.output(graph.op("ConvTranspose", *inputs, **attributes), 40)


def _gemm(graph):
    x = graph.op("Flatten", graph.given())
    weight = graph.weight((10, int(np.prod(SHAPE[1:]))), 0, np.int8)
    return graph.output(graph.op("Gemm", x, weight, graph.bias(weight, 10, 20000), transB=1), 90)


def _matmul(graph):
    weight = graph.weight((SHAPE[3], 7), 1, np.int8)
    return graph.output(graph.op("MatMul", graph.given(), weight), 40)


def _two(graph, kind):
    return graph.output(graph.op(kind, graph.given(), graph.given(width=4.0)), 9)


def _spread(graph, kind):
    x = graph.given()
    return graph.output(graph.op(kind, x, graph.output(graph.op("GlobalAveragePool", x), 3)), 9)


def _same(graph, kind, *rest, **attributes):
    return graph.again(graph.op(kind, graph.given(), *rest, **attributes))


def _other(graph, kind, width, zero=None, **attributes):
    return graph.output(graph.op(kind, graph.given(), **attributes), width, zero)


def _mean(graph, keep):
    axes = graph.const(np.asarray([2, 3]))
    return graph.output(graph.op("ReduceMean", graph.given(), axes, keepdims=keep), 3)


def _concat(graph):
    return graph.output(graph.op("Concat", graph.given(), graph.given(width=4.0), axis=1), 7)


def _shuffle(graph):
    x = graph.op("Reshape", graph.given(), graph.const(np.asarray([-1, 2, 4, *SHAPE[2:]])))
    x = graph.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = graph.op("Reshape", x, graph.const(np.asarray([-1, *SHAPE[1:]])))
    weight = graph.weight((6, SHAPE[1], 1, 1), 0, np.int8)
    return graph.output(graph.op("Conv", x, weight, graph.bias(weight, 6, 900)), 40)


def _split(graph, sizes):
    parts = graph.const(np.asarray(sizes))
    made = graph.op("Split", _conv(graph, 8), parts, outputs=len(sizes), axis=1)
    return graph.output(graph.op("Concat", *made[::-1], axis=1), 40)


def _slice(graph):
    bounds = [graph.const(np.asarray(one)) for one in ([1, -7], [9, 99], [1, 2], [2, 3])]
    return graph.op("Slice", _conv(graph), *bounds)


def _padded(graph):
    around = graph.const(np.asarray([0, 0, 1, 0, 0, 0, 2, 3]))
    return graph.op("Pad", _conv(graph), around, graph.const(np.float32(0)))


def _resize(graph, mode, place, scales=(1, 1, 2, 2), **attributes):
    sizes = graph.const(np.asarray(scales, np.float32))
    return graph.again(
        graph.op("Resize", graph.given(), "", sizes, mode=mode,
                 coordinate_transformation_mode=place, **attributes)
    )  # fmt: skip


def _narrow(graph):
    """A 4-bit grid: two quantizers of one scale, the second of the other sign."""
    scale = graph.const(np.float32(0.4))
    low = graph.const(np.uint8(5)), graph.const(np.int8(127 - 15 + 5))
    x = graph.on("image", (scale, low[0]))
    return graph.on(x, (scale, low[1]))


CASES = {
    "conv": (lambda g: _conv(g), EXACT),
    "conv same": (lambda g: _conv(g, pads=[1] * 4), EXACT),
    "conv stride": (lambda g: _conv(g, pads=[1] * 4, strides=[2, 2]), EXACT),
    "conv dilation": (lambda g: _conv(g, pads=[2] * 4, dilations=[2, 2]), EXACT),
    "conv group": (lambda g: _conv(g, 12, 2, pads=[1] * 4), ONE_STEP),
    "depthwise": (lambda g: _conv(g, 8, 8, pads=[1] * 4), EXACT),
    "depthwise twice": (lambda g: _conv(g, 16, 8, pads=[0, 1, 1, 0], strides=[2, 1]), EXACT),
    "transposed": (lambda g: _transposed(g, strides=[2, 2]), ONE_STEP),
    "transposed cut": (
        lambda g: _transposed(g, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]), ONE_STEP,
    ),
    "gemm": (_gemm, EXACT),
    "matmul": (_matmul, EXACT),
    "add": (lambda g: _two(g, "Add"), EXACT),
    "sub": (lambda g: _two(g, "Sub"), ONE_STEP),
    "mul": (lambda g: _two(g, "Mul"), ONE_STEP),
    "mul spread": (lambda g: _spread(g, "Mul"), ONE_STEP),
    "global mean": (lambda g: _other(g, "GlobalAveragePool", 3), EXACT),
    "mean": (lambda g: _mean(g, 0), EXACT),
    "mean kept": (lambda g: _mean(g, 1), EXACT),
    "max pool": (lambda g: _same(g, "MaxPool", kernel_shape=[2, 2], strides=[2, 2]), EXACT),
    "max pool pad": (
        lambda g: _same(g, "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), EXACT,
    ),
    "max pool ceil": (
        lambda g: _same(g, "MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), EXACT,
    ),
    "average pool": (lambda g: _same(g, "AveragePool", kernel_shape=[3, 3]), ONE_STEP),
    "average pool, other grid": (lambda g: _other(g, "AveragePool", 3, kernel_shape=[2, 2]), EXACT),
    "relu": (lambda g: _other(g, "Relu", 3, 0), ONE_STEP),
    "leaky": (lambda g: _other(g, "LeakyRelu", 5, alpha=0.1), ONE_STEP),
    "sigmoid": (lambda g: _other(g, "Sigmoid", 255 / 256, 0), ONE_STEP),
    "sigmoid, other grid": (lambda g: _other(g, "Sigmoid", 0.9, 0), EXACT),
    "tanh, other grid": (lambda g: _other(g, "Tanh", 2), EXACT),
    "hard swish": (lambda g: _other(g, "HardSwish", 4, 30), ONE_STEP),
    "softmax": (lambda g: _other(g, "Softmax", 255 / 256, 0, axis=1), ONE_STEP),
    "concat": (_concat, EXACT),
    "shuffle": (_shuffle, EXACT),
    "split": (lambda g: _split(g, [4, 4]), EXACT),
    "split unequal": (lambda g: _split(g, [3, 5]), EXACT),
    "slice": (_slice, EXACT),
    "pad": (_padded, EXACT),
    "nearest": (
        lambda g: _resize(g, "nearest", "asymmetric", nearest_mode="floor"), EXACT,
    ),
    "bilinear": (lambda g: _resize(g, "linear", "half_pixel"), ONE_STEP),
    "bilinear corners": (lambda g: _resize(g, "linear", "align_corners"), ONE_STEP),
    "narrow": (_narrow, EXACT),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_onnx_runtimes(name, seed, tmp_path):
    make, allowed = CASES[name]
    graph = Graph(SHAPE, np.uint8, seed)
    model = _model(graph, make(graph))
    onnx.save(model, path := tmp_path / "model.onnx")
    write_tflite(model, file := tmp_path / "model.tflite")
    images = graph.random.normal(0, 1.5, SHAPE).astype(np.float32)
    session = open_target("litert", file, threads=1)
    found = session.run(images)["logits"]
    # A layer's sums are exact in a precise session; the rest is rounded once where it runs alone.
    layer = name.split()[0] in (
        "conv",
        "depthwise",
        "gemm",
        "matmul",
        "shuffle",
        "add",
        "split",
        "slice",
        "pad",
    )
    wanted = (open_precise("onnxruntime", path) if layer else open_unfused(path)).run(images)[
        "logits"
    ]
    assert found.shape == wanted.shape
    assert len(np.unique(wanted)) > 4
    steps = np.rint(np.abs(found - wanted) / session.steps["logits"])
    assert steps.max() <= allowed, f"{(steps > 0).mean():.4%} off, worst {steps.max()}"


def test_four_bit_integers_are_packed_the_first_in_the_lower_half():
    assert nibbles(np.asarray([1, -1, -8])).tolist() == [0xF1, 0x08]


def test_an_operator_without_a_form_is_named_with_its_node():
    graph = Graph(SHAPE, np.uint8, 0)
    made = graph.op("CumSum", graph.given(), graph.const(np.asarray(1)))
    with pytest.raises(ExportError, match=f"CumSum at '{made}'"):
        translate(_model(graph, graph.output(made, 9)))


def test_the_file_holds_the_scales_and_integers_of_the_onnx_file():
    graph = Graph(SHAPE, np.uint8, 3)
    model = _model(graph, _conv(graph))
    [node] = [one for one in model.graph.node if one.op_type == "Conv"]
    makers = {one.output[0]: one for one in model.graph.node}
    found = parse_tflite(translate(model), "model")
    [conv] = [one for one in found.operators if one.kind == "CONV_2D"]
    x, weight, bias = (found.tensors[place] for place in conv.inputs)
    for tensor, name in ((weight, node.input[1]), (bias, node.input[2])):
        scales = graph.tensors[makers[name].input[1]]
        assert np.array_equal(np.float32(tensor.scale), scales)
        assert set(tensor.zero_point) == {0}
    source = makers[node.input[0]]
    assert np.float32(x.scale[0]) == graph.tensors[source.input[1]]
    assert x.zero_point[0] == int(graph.tensors[source.input[2]]) - 128
    assert weight.shape == (12, 3, 3, 8)
    assert bias.dtype == "INT32"


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"not a \.tflite file"):
        read_tflite(tmp_path / "a.tflite")
    with pytest.raises(ExportError, match="cannot read"):
        read_tflite(tmp_path / "b.tflite")


def test_litert_s_own_analyzer_reads_the_file(capfd):
    from ai_edge_litert import _pywrap_analyzer_wrapper as analyzer

    graph = Graph(SHAPE, np.uint8, 0)
    content = translate(_model(graph, _shuffle(graph)))
    text = analyzer.ModelAnalyzer(content, False, False)
    for kind in ("QUANTIZE", "RESHAPE", "TRANSPOSE", "CONV_2D", "DEQUANTIZE"):
        assert kind in text
