"""The arithmetic of LiteRT's kernels, operator by operator, against its interpreter."""

import numpy as np
import pytest

from bitladder.deploy.litert.builder import Builder, Grid
from bitladder.errors import TargetError

pytest.importorskip("ai_edge_litert")

from bitladder.targets.integer.litert import LitertModel, interpreter

IMAGE = (1, 10, 11, 24)
MANY = (1, 10, 11, 1500)  # where values part seldom
_TERMS = 40  # of a fully connected layer
KERNELS = ["xnnpack", "builtin", "reference"]


RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4
HALF = 12.0  # width of a grid on which 6 lies between two integers


def _fused(kind):
    return {"fusedActivationFunction": kind} if kind else {}


class Probe:
    """A file of one operator with random grids and integers."""

    def __init__(self, seed):
        self.random, self.builder = np.random.default_rng(seed), Builder()
        self.inputs, self.given = [], []

    def grid(self, dtype="int8", width=None):
        width = self.random.uniform(1, 12) if width is None else width
        if dtype == "int16":
            return Grid(np.float32(width / 65535), 0, dtype)
        return Grid(np.float32(width / 255), int(self.random.integers(-100, 101)), dtype)

    def image(self, grid, shape=IMAGE):
        info = np.iinfo(grid.dtype)
        values = self.random.integers(info.min, info.max + 1, shape).astype(grid.dtype)
        return self._input(values, grid)

    def real(self, values):
        return self._input(np.asarray(values, np.float32), None)

    def _input(self, values, grid):
        place = self.builder.tensor(f"x{len(self.given)}", values.shape, str(values.dtype), grid)
        self.inputs.append(place)
        self.given.append(values)
        return place

    def file(self, code, inputs, shape, grid, options=None, version=2):
        kind = "float32" if grid is None else grid.dtype
        made = self.builder.tensor("y", shape, kind, grid)
        settings = None if options is None else self.builder.options(options[0], **options[1])
        self.builder.op(code, inputs, [made], settings, version=version)
        return self.builder.pack(self.inputs, [made]), self.given


def layer(code, dtype="int8", weights="int8", kernel=3, count=20, stride=1, same=False, fused=0,
          width=None):  # fmt: skip
    def make(seed):
        p = Probe(seed)
        channels, height, width = IMAGE[3], *IMAGE[1:3]
        x_grid = p.grid(dtype, p.random.uniform(1, 6))
        step = {"strideH": stride, "strideW": stride, "padding": 0 if same else 1}
        spread = {"dilationHFactor": 1, "dilationWFactor": 1}
        bounds = -(-height // stride), -(-width // stride)
        if not same:
            bounds = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        shape, axis, version = (count, kernel, kernel, channels), 0, 3
        terms = kernel**2 * channels
        if code == "DEPTHWISE_CONV_2D":
            count_, shape, axis, terms = channels, (1, kernel, kernel, channels), 3, kernel**2
            options = ("DepthwiseConv2DOptions", step | spread | {"depthMultiplier": 1})
            made = (1, *bounds, count_)
        elif code == "CONV_2D":
            options, made = ("Conv2DOptions", step | spread), (1, *bounds, count)
        elif code == "TRANSPOSE_CONV":
            options = ("TransposeConvOptions", step)
            made = (1, *((n - 1) * stride + kernel for n in (height, width)), count)
            terms //= stride**2
        else:
            shape, terms, version = (count, _TERMS), _TERMS, 12
            options, made = ("FullyConnectedOptions", {"keepNumDims": False}), (1, count)
        high = 7 if weights == "int4" else 127
        channels_out = shape[axis]
        if code != "FULLY_CONNECTED" and (weights, dtype) != ("int8", "int8"):
            version = 7 if weights == "int4" else 4 if code == "TRANSPOSE_CONV" else 5
        scales = p.random.uniform(0.002, 0.01, channels_out).astype(np.float32)
        x = p.image(x_grid, (1, terms) if code == "FULLY_CONNECTED" else IMAGE)
        w = p.builder.constant(
            "w", p.random.integers(-high, high + 1, shape), Grid(scales, 0, weights, axis)
        )
        bias_grid = Grid(
            (x_grid.scale * scales).astype(np.float32), 0,
            "int64" if dtype == "int16" else "int32", 0,
        )  # fmt: skip
        bias = p.builder.constant("b", p.random.integers(-20000, 20000, channels_out), bias_grid)
        reach = float(x_grid.scale) * np.iinfo(dtype).max * float(scales.mean()) * high / 3
        grid = p.grid(dtype, width or reach * terms**0.5 * p.random.uniform(3, 8))
        options = (options[0], options[1] | _fused(fused))
        inputs = [x, w, bias]
        if code == "TRANSPOSE_CONV":
            inputs = [p.builder.constant("s", np.asarray(made, np.int32)), w, x, bias]
        return p.file(code, inputs, made, grid, options, version)

    return make


def two(code, dtype="int8", width=None, shape=IMAGE, fused=0):
    def make(seed):
        p = Probe(seed)
        places = [p.image(p.grid(dtype, width), shape) for _ in range(2)]
        more = {} if code == "MUL" else {"potScaleInt16": False}
        options = (f"{code.capitalize()}Options", more | _fused(fused))
        return p.file(code, places, shape, p.grid(dtype), options)

    return make


def one(code, dtype="int8", fixed=None, options=None, version=2):
    def make(seed):
        p = Probe(seed)
        grid = p.grid(dtype) if fixed is None else Grid(np.float32(fixed[0]), fixed[1], dtype)
        return p.file(code, [p.image(p.grid(dtype))], IMAGE, grid, options, version)

    return make


def onto(dtype, start="float32"):
    """QUANTIZE, of halves between integers too; DEQUANTIZE where it ends in float32."""

    def make(seed):
        p = Probe(seed)
        if dtype == "float32":
            return p.file("DEQUANTIZE", [p.image(p.grid(start))], IMAGE, None,
                          ("DequantizeOptions", {}))  # fmt: skip
        grid = p.grid(dtype)
        if start == "float32":
            values = p.random.normal(0, 1, IMAGE)
            values[:, ::2] = (p.random.integers(-90, 90, values[:, ::2].shape) + 0.5) * grid.scale
            x = p.real(values)
        else:
            x = p.image(p.grid(start))
        return p.file("QUANTIZE", [x], IMAGE, grid, ("QuantizeOptions", {}))

    return make


def limit(code, dtype, integer):
    """MAXIMUM or MINIMUM with a constant, all on one grid."""

    def make(seed):
        p = Probe(seed)
        grid = p.grid(dtype)
        held = p.builder.constant("limit", np.asarray([integer]), grid)
        return p.file(code, [p.image(grid), held], IMAGE, grid, ("MaximumMinimumOptions", {}))

    return make


def pool(code, window, stride, same, dtype="int8", fused=0):
    def make(seed):
        p, (height, width) = Probe(seed), IMAGE[1:3]
        sizes = [-(-n // stride) if same else (n - window) // stride + 1 for n in (height, width)]
        options = {"padding": 0 if same else 1, "strideH": stride, "strideW": stride}
        options |= {"filterHeight": window, "filterWidth": window} | _fused(fused)
        grid = p.grid(dtype)
        shape = (1, *sizes, IMAGE[3])
        return p.file(code, [p.image(grid)], shape, grid, ("Pool2DOptions", options))

    return make


def mean(dtype="int8", keep=True):
    def make(seed):
        p = Probe(seed)
        given, made = Grid(np.float32(0.02), 4, "int8"), Grid(np.float32(0.0031), -30, "int8")
        if dtype == "int16":
            given, made = p.grid(dtype, 6), p.grid(dtype, 2)
        x, axes = p.image(given), p.builder.constant("a", np.asarray([1, 2], np.int32))
        shape = (1, 1, 1, IMAGE[3]) if keep else (1, IMAGE[3])
        return p.file("MEAN", [x, axes], shape, made, ("ReducerOptions", {"keepDims": keep}))

    return make


def resize(kind, size, **options):
    def make(seed):
        p = Probe(seed)
        grid = p.grid()
        inputs = [p.image(grid), p.builder.constant("s", np.asarray(size, np.int32))]
        code = f"RESIZE_{'BILINEAR' if kind == 'Bilinear' else 'NEAREST_NEIGHBOR'}"
        shape = (1, *size, IMAGE[3])
        return p.file(code, inputs, shape, grid, (f"Resize{kind}Options", options), 3)

    return make


CASES = {
    "conv": layer("CONV_2D"),
    "conv_same_stride": layer("CONV_2D", stride=2, same=True),
    "conv_1x1": layer("CONV_2D", kernel=1),
    "conv_int4": layer("CONV_2D", weights="int4"),
    "conv_int16": layer("CONV_2D", "int16"),
    "depthwise": layer("DEPTHWISE_CONV_2D", same=True),
    "depthwise_int4": layer("DEPTHWISE_CONV_2D", weights="int4"),
    "depthwise_int16": layer("DEPTHWISE_CONV_2D", "int16", stride=2),
    "linear": layer("FULLY_CONNECTED", count=600),
    "linear_int4": layer("FULLY_CONNECTED", weights="int4", count=600),
    "linear_int16": layer("FULLY_CONNECTED", "int16", count=600),
    "transposed": layer("TRANSPOSE_CONV", stride=2),
    "transposed_int16": layer("TRANSPOSE_CONV", "int16", stride=2),
    "conv_relu": layer("CONV_2D", fused=RELU),
    "conv_relu6": layer("CONV_2D", fused=RELU6),
    "conv_relu6_half": layer("CONV_2D", fused=RELU6, width=HALF),
    "conv_relu_n1_to_1": layer("CONV_2D", fused=RELU_N1_TO_1),
    "conv_int16_relu6": layer("CONV_2D", "int16", fused=RELU6),
    "depthwise_relu6": layer("DEPTHWISE_CONV_2D", fused=RELU6, width=HALF),
    "linear_relu": layer("FULLY_CONNECTED", count=600, fused=RELU),
    "add_relu6": two("ADD", fused=RELU6),
    "sub_relu": two("SUB", fused=RELU),
    "mul_relu_n1_to_1": two("MUL", width=4, fused=RELU_N1_TO_1),
    "average_pool_relu6": pool("AVERAGE_POOL_2D", 2, 2, False, fused=RELU6),
    "maximum_int16": limit("MAXIMUM", "int16", -900),
    "minimum_int16": limit("MINIMUM", "int16", 700),
    "minimum": limit("MINIMUM", "int8", 30),
    "add": two("ADD"),
    "add_int16": two("ADD", "int16", shape=MANY),
    "sub": two("SUB"),
    "sub_int16": two("SUB", "int16", shape=MANY),
    "mul": two("MUL", width=4),
    "mul_int16": two("MUL", "int16", width=4),
    "hard_swish": one("HARD_SWISH", options=("HardSwishOptions", {}), version=1),
    "leaky": one("LEAKY_RELU", options=("LeakyReluOptions", {"alpha": 0.1})),
    "logistic": one("LOGISTIC", fixed=(1 / 256, -128)),
    "relu": one("RELU"),
    "relu6": one("RELU6"),
    "relu_int16": one("RELU", "int16"),
    "softmax": one("SOFTMAX", fixed=(1 / 256, -128), options=("SoftmaxOptions", {"beta": 1.0})),
    "tanh": one("TANH", fixed=(1 / 128, 0)),
    "quantize": onto("int8"),
    "quantize_int16": onto("int16"),
    "dequantize": onto("float32", "int8"),
    "dequantize_int16": onto("float32", "int16"),
    "requantize": onto("int8", "int8"),
    "requantize_wider": onto("int16", "int8"),
    "requantize_narrower": onto("int8", "int16"),
    "average_pool": pool("AVERAGE_POOL_2D", 3, 2, same=True),
    "average_pool_int16": pool("AVERAGE_POOL_2D", 2, 2, False, "int16"),
    "max_pool": pool("MAX_POOL_2D", 3, 2, same=True),
    "mean": mean(),
    "mean_flat": mean(keep=False),
    "mean_int16": mean("int16"),
    "bilinear": resize("Bilinear", (20, 22), halfPixelCenters=True),
    "bilinear_odd": resize("Bilinear", (23, 7), halfPixelCenters=True),
    "bilinear_corners": resize("Bilinear", (19, 21), alignCorners=True),
    "nearest": resize("NearestNeighbor", (20, 33), halfPixelCenters=True),
}
REFUSED = {
    ("mean", "builtin"),
    ("mean_flat", "builtin"),
    ("softmax", "reference"),
    ("transposed", "builtin"),
}
NOT_RUN = {("depthwise_int4", "reference")}  # by LiteRT itself


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_every_value_is_the_interpreters(case, kernels):
    if (case, kernels) in NOT_RUN:
        pytest.skip("LiteRT has no such kernel")
    different = 0
    for seed in range(3):
        content, given = CASES[case](seed)
        session = interpreter(content, kernels)
        for place, values in zip(session.get_input_details(), given, strict=True):
            session.set_tensor(place["index"], values)
        session.invoke()
        found = session.get_tensor(session.get_output_details()[0]["index"])
        if (case, kernels) in REFUSED:
            with pytest.raises(TargetError, match="no integer arithmetic of LiteRT is known"):
                LitertModel(content, kernels)
            continue
        [wanted] = LitertModel(content, kernels).run(*given).values()
        assert np.array_equal(found, wanted)
        different += len(np.unique(found))
    assert (case, kernels) in REFUSED or different > 12


def test_an_activation_that_does_more_than_clamp_is_refused_where_it_is_fused():
    content, _ = layer("CONV_2D", fused=TANH)(0)
    with pytest.raises(TargetError, match=r"fused|refuses it"):
        LitertModel(content, "reference")
