"""Integer kernels against ONNX Runtime: random grids, shapes and attributes, 8 and 16 bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import DOMAIN, Graph, both

from bitladder.errors import TargetError

WIDTHS = [np.uint8, np.int8, np.uint16, np.int16]
SHAPES = [(3, 5, 6, 7), (2, 17, 4, 4), (2, 16, 8, 8), (4, 1, 5, 1)]


def _axis(g):
    return int(g.random.integers(1, len(g.shape)))


def _second(g):
    """Another input: the first negated, a mean over one axis, a constant, its integers."""
    shape = [size if g.random.random() < 0.5 else 1 for size in g.shape[1:]]
    return g.one_of(
        lambda: g.given(g.op("Neg", "image")),
        lambda: g.given(g.op("ReduceMean", "image", g.const([_axis(g)]))),
        lambda: g.given(g.numbers(*shape)),
        lambda: g.weight(shape, kind=g.dtype),
    )()


def _pair(kind):
    def write(g):
        x = g.given()
        inputs = g.one_of((x, _second(g)), (_second(g), x))
        return g.output(g.op(kind, *inputs), 8)

    return write


def _windows(g, count):
    chosen = {
        "kernel_shape": g.random.integers(2, 4, count).tolist(),
        "strides": g.random.integers(1, 4, count).tolist(),
    }
    if g.random.random() < 0.3:
        return chosen | {"auto_pad": g.one_of("SAME_UPPER", "SAME_LOWER", "VALID")}
    pads = g.random.integers(0, 2, 2 * count).tolist()
    return chosen | {"pads": pads, "ceil_mode": int(g.random.integers(2))}


def _after_convolution(g, x):
    """In half of the graphs, which then have channels last."""
    if g.random.random() < 0.5 or len(g.shape) != 4:
        return x
    count = g.shape[1]
    return g.output(g.op("Conv", x, g.weight((count, count, 1, 1))), 20)


def _average(g):
    chosen = _windows(g, len(g.shape) - 2)
    x = _after_convolution(g, g.given())
    include = int(g.random.integers(2))
    return g.output(g.op("AveragePool", x, count_include_pad=include, **chosen), 6)


def _maximum(g):
    chosen = _windows(g, len(g.shape) - 2)
    if "auto_pad" in chosen:  # the runtime refuses steps beyond the window here
        chosen["strides"] = [1] * len(chosen["strides"])
    else:
        chosen["dilations"] = g.random.integers(1, 3, len(g.shape) - 2).tolist()
    x = _after_convolution(g, g.given())
    return g.again(g.op("MaxPool", x, **chosen))


def _convolution(g):
    channels, count = g.shape[1], len(g.shape) - 2
    groups, out = g.one_of(1, channels), channels * int(g.random.integers(1, 4))
    window = g.random.integers(1, 4, count).tolist()
    x, w = g.given(), g.weight((out, channels // groups, *window), g.one_of(None, 0))
    largest = g.one_of(20000, 2**31 - 1)
    bias = g.one_of((), (g.numbers(out),), (g.bias(w, out, largest),))
    y = g.op(
        "Conv",
        x,
        w,
        *bias,
        group=groups,
        strides=g.random.integers(1, 3, count).tolist(),
        dilations=g.random.integers(1, 3, count).tolist(),
        pads=g.random.integers(2, 4, 2 * count).tolist(),
    )
    return g.output(y, 60)


def _perhaps_on_a_grid(g, y):
    return y if g.random.random() < 0.5 else g.output(y, 60)


def _linear(g):
    x = g.op("Reshape", g.given(), g.const([-1, int(np.prod(g.shape[1:]))]))
    given, out, turned = int(np.prod(g.shape[1:])), int(g.random.integers(1, 70)), g.one_of(0, 1)
    w = g.weight((out, given) if turned else (given, out), g.one_of(None, 1 - turned))
    bias = g.one_of((), (g.bias(w, out, g.one_of(20000, 2**31 - 1)),))
    y = g.op("Gemm", x, w, *bias, transB=turned, alpha=g.one_of(1.0, 0.3))
    return _perhaps_on_a_grid(g, y)


def _matrices(g):
    x, turned = g.given(), g.op("Transpose", "image", perm=[0, 1, 3, 2])
    return _perhaps_on_a_grid(g, g.op("MatMul", x, g.given(turned)))


def _matrix(g):
    out = int(g.random.integers(1, 70))
    y = g.op("MatMul", g.given(), g.weight((g.shape[-1], out), g.one_of(None, 1)))
    if g.random.random() < 0.5:
        y = g.op("Add", y, g.numbers(out))
    return _perhaps_on_a_grid(g, y)


def _dynamic(g):
    integers, scale, zero = g.op("DynamicQuantizeLinear", "image", outputs=3)
    w = g.const(g.random.integers(-128, 128, (g.shape[-1], 9)).astype(np.int8))
    y = g.op("Cast", g.op("MatMulInteger", integers, w, zero, g.const(np.int8(0))), to=1)
    return g.op("Mul", y, g.op("Mul", scale, g.const(np.float32(0.01))))


def _softmax(g):
    width = g.one_of(255 / 256, 1.0, 0.2, 3.0)
    y = g.op("Softmax", g.given(), axis=_axis(g))
    return g.output(y, width, g.one_of(0, int(g.random.integers(0, 60))))


def _where(g):
    where = g.op("Greater", "image", g.const(np.float32(0.3)))
    return g.output(g.op("Where", where, g.given(), g.given(g.op("Neg", "image"))), 8)


def _place(g):
    last = int(g.random.integers(2))
    y = g.op(g.one_of("ArgMax", "ArgMin"), g.given(), axis=_axis(g), select_last_index=last)
    return g.op("Cast", y, to=1)


def _no_numbers(g):
    """Infinities and what is no number, on a grid."""
    x = g.given()
    return g.output(g.op("Log", g.op("Div", x, g.op("Sub", x, x))), 8)


def _blocked(g):
    """Float layers with weights in blocks of channels, as the runtime lays them out itself."""
    channels = g.shape[1]
    y = g.op("Conv", g.given(), g.numbers(32, channels, 3, 3), pads=[1] * 4)
    z = g.op("Conv", g.op("Relu", y), g.numbers(32, 32, 1, 1))
    y = g.op("MaxPool", g.op("Relu", g.op("Add", z, y)), kernel_shape=[2, 1])
    return g.output(g.op("AveragePool", y, kernel_shape=[2, 1]), 400)


def _fused(g):
    """Float operations that the runtime replaces by its own."""
    size, x = g.shape[-1], g.given()
    x = g.op("Add", x, g.numbers(size))
    erf = g.op("Erf", g.op("Div", x, g.const(np.float32(2**0.5))))
    y = g.op("Mul", x, g.op("Add", erf, g.const(np.float32(1))))
    y = g.op("Add", g.op("Mul", y, g.const(np.float32(0.5))), g.given())
    y = g.op("LayerNormalization", y, g.numbers(size), g.numbers(size), axis=-1)
    gate = g.op("Sigmoid", g.op("Mul", y, g.const(np.float32(1.702))))
    rows = g.op("Reshape", g.op("Mul", y, gate), g.const([-1, size]))
    return g.output(g.op("Relu", g.op("Gemm", rows, g.numbers(size, 7), g.numbers(7))), 40)


LARGE = (6, 33, 9, 8)
KERNELS = {  # how it is written, shapes of the input, what then runs at 8 bit
    "add": (_pair("Add"), SHAPES, {"QLinearAdd"}),
    "argmax": (_place, SHAPES[:2], {"ArgMax", "ArgMin"}),
    "average": (_average, [*SHAPES[:3], (3, 5, 40), (2, 3, 6, 7, 5)], {"QLinearAveragePool"}),
    "blocked": (_blocked, [(3, 32, 9, 9), (2, 16, 17, 15)], {"ReorderInput", "ReorderOutput"}),
    "concatenate": (
        lambda g: g.output(
            g.op("Concat", g.given(), g.given(g.op("Neg", "image")), axis=_axis(g)), 8),
        SHAPES, {"QLinearConcat"}),
    "convolution": (
        _convolution, [*SHAPES[:3], LARGE, (3, 5, 40), (2, 3, 6, 7, 5)], {"QLinearConv"}),
    "dynamic": (_dynamic, SHAPES[:2], {"DynamicQuantizeMatMul"}),
    "fused": (_fused, [(3, 6, 8, 16), (2, 3, 5, 33)],
              {"BiasGelu", "LayerNormalization", "QuickGelu", "FusedGemm"}),
    "global_average": (
        lambda g: g.output(g.op("GlobalAveragePool", g.given()), 2),
        [(3, 5, 40), *SHAPES[:3], (2, 3, 6, 7, 5)], {"QLinearGlobalAveragePool"}),
    "leaky_relu": (
        lambda g: g.output(g.op("LeakyRelu", g.given(), alpha=float(g.random.uniform(0, 1))), 5),
        SHAPES[:2], {"QLinearLeakyRelu"}),
    "linear": (_linear, [*SHAPES[:2], (9, 1, 1, 5)], {"QGemm"}),
    "matrices": (_matrices, [(4, 2, 33, 31), (3, 1, 7, 130)],
                 {"QLinearMatMul", "MatMulIntegerToFloat"}),
    "matrix": (_matrix, [(4, 2, 33, 31), (3, 1, 7, 130)],
               {"QLinearMatMul", "MatMulIntegerToFloat"}),
    "maximum": (_maximum, [(2, 4, 9, 9), (2, 16, 9, 9), (3, 5, 40), (2, 3, 6, 7, 6)],
                {"MaxPool", "NhwcMaxPool"}),
    "multiply": (_pair("Mul"), SHAPES, {"QLinearMul"}),
    "no_numbers": (_no_numbers, SHAPES[:1], {"Log"}),
    "sigmoid": (
        lambda g: g.output(g.op("Sigmoid", g.given(width=16)), 255 / 256, 0),
        SHAPES[:2], {"QLinearSigmoid"}),
    "softmax": (_softmax, SHAPES, {"QLinearSoftmax"}),
    "where": (_where, SHAPES[:2], {"QLinearWhere"}),
}  # fmt: skip


def _compare(name, dtype, place, seed, path):
    """Hold that nothing differs; what the runtime executed."""
    write, shapes, _ = KERNELS[name]
    g = Graph(shapes[place % len(shapes)], dtype, seed)
    output = write(g)
    images = g.random.normal(0, 1.2, g.shape).astype(np.float32)
    theirs, ours, executed = both(g, output, path, images)
    np.testing.assert_array_equal(ours, theirs)
    return executed


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=16)
@given(dtype=st.sampled_from(WIDTHS), place=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_every_kernel_is_identical(tmp_path_factory, name, dtype, place, seed):
    _compare(name, dtype, place, seed, tmp_path_factory.mktemp("kernel") / "m.onnx")


@pytest.mark.parametrize("name", [name for name, (_, _, runs) in KERNELS.items() if runs])
def test_the_kernel_is_what_runs(name, tmp_path):
    path = tmp_path / "m.onnx"
    executed = set().union(*(_compare(name, np.uint8, seed, seed, path) for seed in range(12)))
    assert KERNELS[name][2] <= executed


def _i64(g, *values):
    return g.const(np.array(values, np.int64))


MOVEMENT = {
    "depth_to_space": lambda g, x: g.op("DepthToSpace", x, blocksize=2, mode="CRD"),
    "depth_to_space_dcr": lambda g, x: g.op("DepthToSpace", x, blocksize=2),
    "expand": lambda g, x: g.op("Expand", x, _i64(g, 2, 1, 1, 1, 1)),
    "flatten": lambda g, x: g.op("Flatten", x, axis=-1),
    "gather": lambda g, x: g.op("Gather", x, g.const([[0, -1], [2, 1]]), axis=2),
    "gather_elements": lambda g, x: g.op("GatherElements", x, g.const([[[[0, 1, -1]]]] * 3),
                                         axis=3),
    "maximum": lambda g, x: g.op("ReduceMax", x, _i64(g, 2)),
    "minimum": lambda g, x: g.op("ReduceMin", x, _i64(g, -1), keepdims=0),
    "nearest": lambda g, x: g.op("Resize", x, "", g.const(np.float32([1, 1, 2.5, 1.7]))),
    "pad": lambda g, x: g.op("Pad", x, _i64(g, 0, 0, 1, 2, 0, 0, 2, 1), g.const(np.float32(0.5))),
    "pad_edge": lambda g, x: g.op("Pad", x, _i64(g, 1, 2, 1, 2), "", _i64(g, 3, -2), mode="edge"),
    "pad_reflect": lambda g, x: g.op("Pad", x, _i64(g, 0, 0, 1, 2, 0, 0, 2, -1), mode="reflect"),
    "slice": lambda g, x: g.op("Slice", x, _i64(g, 1), _i64(g, 2**62), _i64(g, 2), _i64(g, 2)),
    "slice_back": lambda g, x: g.op("Slice", x, _i64(g, -1, 5), _i64(g, -(2**31), 0), _i64(g, 3, 2),
                                    _i64(g, -1, -2)),
    "slice_back_to_first": lambda g, x: g.op("Slice", x, _i64(g, -1), _i64(g, -7), _i64(g, 3),
                                             _i64(g, -3)),
    "space_to_depth": lambda g, x: g.op("SpaceToDepth", x, blocksize=2),
    "split": lambda g, x: g.op("Split", x, _i64(g, 1, 3), outputs=2, axis=1)[1],
    "split_evenly": lambda g, x: g.op("Split", x, outputs=3, num_outputs=3, axis=3)[2],
    "squeeze": lambda g, x: g.op("Squeeze", g.again(
        g.op("Slice", x, _i64(g, 1), _i64(g, 2), _i64(g, 1)))),
    "tile": lambda g, x: g.op("Tile", x, _i64(g, 1, 2, 1, 3)),
    "transpose": lambda g, x: g.op("Transpose", x),
    "unsqueeze": lambda g, x: g.op("Unsqueeze", x, _i64(g, 0, -1)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
@pytest.mark.parametrize("name", MOVEMENT)
def test_every_movement_is_identical(name, dtype, tmp_path):
    g = Graph((3, 4, 6, 8), dtype, 3)
    output = g.again(MOVEMENT[name](g, g.given()))
    images = g.random.normal(0, 1.2, g.shape).astype(np.float32)
    theirs, ours, _ = both(g, output, tmp_path / "m.onnx", images)
    assert len(np.unique(theirs)) > 4
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("steps", [256, 255, 1000, 4000])
@pytest.mark.parametrize("count", [1, 2, 5, 33, 1000])
def test_softmax_is_identical_where_a_step_is_small(count, steps, dtype, tmp_path):
    """Exponentials times the steps to one exceed float32 here."""
    g = Graph((4000 // count + 200, count), dtype, 0)
    output = g.output(g.op("Softmax", g.given(), axis=1), 255 / steps, 7)
    images = g.random.normal(0, 0.5, g.shape).astype(np.float32)
    theirs, ours, executed = both(g, output, tmp_path / "m.onnx", images)
    assert "QLinearSoftmax" in executed
    np.testing.assert_array_equal(ours, theirs)


def test_an_operation_on_integers_without_known_arithmetic_is_named(tmp_path):
    g = Graph((2, 4, 6, 6), np.uint8, 0)
    scale, zero = g.grid(6)
    integers = g.op("QuantizeLinear", "image", scale, zero)
    doubled = g.op("BitShift", integers, g.const(np.uint8(1)), direction="LEFT")
    output = g.op("DequantizeLinear", doubled, scale, zero)
    images = g.random.normal(0, 1, g.shape).astype(np.float32)
    with pytest.raises(TargetError, match="is known for the operation BitShift"):
        both(g, output, tmp_path / "m.onnx", images)


def test_integers_made_by_an_operation_without_known_arithmetic_are_named(tmp_path):
    g = Graph((2, 4, 6, 6), np.uint8, 0)
    integers, scale, zero = g.op("DynamicQuantizeLinear", "image", outputs=3)
    output = g.op("DequantizeLinear", integers, scale, zero)
    images = g.random.normal(0, 1, g.shape).astype(np.float32)
    with pytest.raises(TargetError, match="is known for the operation DynamicQuantizeLinear"):
        both(g, output, tmp_path / "m.onnx", images)


def test_int8_kernels_are_identical(tmp_path):
    """Those that the runtime turns into uint8 ones where it makes them itself."""
    g = Graph((3, 5, 6, 7), np.int8, 1)
    grids = [g.grid(width) for width in (6, 5, 8, 20, 15, 10)]
    x = g.op("QuantizeLinear", "image", *grids[0])
    y = g.op("QuantizeLinear", g.op("Neg", "image"), *grids[1])
    added = g.op("QLinearAdd", x, *grids[0], y, *grids[1], *grids[2], domain=DOMAIN)
    product = g.op("QLinearMul", added, *grids[2], x, *grids[0], *grids[3], domain=DOMAIN)
    leaky = g.op("QLinearLeakyRelu", product, *grids[3], *grids[4], alpha=0.3, domain=DOMAIN)
    where = [g.op("Greater", "image", g.const(np.float32(0))), leaky, *grids[4], x, *grids[0]]
    chosen = g.op("QLinearWhere", *where, *grids[5], domain=DOMAIN)
    pooled = g.op("QLinearAveragePool", chosen, *grids[5], *grids[5], kernel_shape=[2, 2],
                  ceil_mode=1, strides=[2, 2], domain=DOMAIN)  # fmt: skip
    output = g.op("DequantizeLinear", pooled, *grids[5])
    images = g.random.normal(0, 1.2, g.shape).astype(np.float32)
    theirs, ours, executed = both(g, output, tmp_path / "m.onnx", images)
    assert {"QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearWhere"} <= executed
    np.testing.assert_array_equal(ours, theirs)
