"""What integers compute of a float network and its encodings: numpy alone, from the formulas.

A second implementation beside ``bitladder.targets.integer``, with which it shares no code. It
never sees the file that is checked: integers of weights and of biases are made here, from the
float ONNX file and AIMET's JSON. So a file with a wrong bias, scale or zero point differs.

The formulas are those of docs/targets.md. Sums are int64, so that they never overflow; a bias
that has no int32 at the scale of input times weight is listed in ``overflows`` and kept whole.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper, numpy_helper

FLOAT = np.float32
WIDEST_BIAS = 2**31 - 1
CLIPS = ("Relu", "Clip")


@dataclass(frozen=True)
class Grid:
    """Integers ``low`` to ``high`` that stand for ``scale * (integer - zero)``."""

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int
    axis: int | None = None

    def cut(self, floor, ceiling):
        """The same grid with an end at each bound."""
        ends = []
        for bound in (floor, ceiling):
            place = np.rint(FLOAT(bound) / self.scale) + self.zero
            ends.append(int(np.clip(place, self.low, self.high)))
        return Grid(self.scale, self.zero, *ends)

    def quantize(self, values):
        """Integers of real values."""
        scale, zero = self._spread(values.ndim)
        return np.clip(np.rint(values.astype(FLOAT) / scale) + zero, self.low, self.high).astype(
            np.int64
        )

    def real(self, integers):
        """Values of integers, in float32."""
        scale, zero = self._spread(integers.ndim)
        return (integers - zero).astype(FLOAT) * scale

    def written(self):
        """What is added to an integer so that the smallest is a container's smallest."""
        return -self.low

    def read(self):
        """What is added to an integer so that the largest is a container's largest."""
        return 255 - self.high

    def _spread(self, dimensions):
        if self.axis is None:
            return self.scale, self.zero
        shape = [1] * dimensions
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero.reshape(shape)


@dataclass(frozen=True)
class Integers:
    """A tensor that lies on a grid."""

    values: np.ndarray
    grid: Grid

    @property
    def centred(self):
        """Integers less the zero point."""
        return self.values - self.grid.zero


class Reference:
    """A float graph and its encodings, computed in integers.

    Args:
        network: path of the float ONNX file.
        encodings: path of AIMET's JSON, version 2.0.0.

    Attributes:
        overflows: by the name of a layer's output, the largest bias that no int32 holds, as an
            integer at the scale of input times weight.
    """

    def __init__(self, network, encodings):
        self.graph = onnx.load(network).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.grids = {
            entry["name"]: _grid(entry) for entry in json.loads(encodings.read_text())["encodings"]
        }
        self.readers = Counter(name for node in self.graph.node for name in node.input)
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.overflows = {}

    def run(self, images):
        """Logits of images (N, C, H, W)."""
        [given] = self.graph.input
        grid = self.grids[given.name]
        values = {given.name: Integers(grid.quantize(images), grid)}
        for node in self.graph.node:
            self._node(node, values)
        return _real(values[self.graph.output[0].name])

    def _node(self, node, values):
        name = node.output[0]
        if name in values:  # an activation that its layer has taken in
            return
        result, grid = name, self.grids.get(name)
        follower = self._follower(node)
        if follower is not None:
            result = follower.output[0]
            grid = self.grids[result].cut(*self._bounds(follower))
        inputs = [values.get(given, self.constants.get(given)) for given in node.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in _MOVE:
            self._move(node, inputs, attributes, values)
            return
        computed = self._compute(node, inputs, attributes, grid)
        values[result] = computed
        values.setdefault(name, computed)

    def _follower(self, node):
        """The activation whose grid does a node's rounding, or None.

        A layer before it is rounded once, on the activation's grid, where nobody else reads it.
        """
        name = node.output[0]
        if node.op_type in _MOVE or self.readers[name] != 1:
            return None
        for other in self.graph.node:
            if name in other.input and other.op_type in CLIPS and other.output[0] in self.grids:
                return other
        return None

    def _bounds(self, node):
        if node.op_type == "Relu":
            return 0.0, np.inf
        low, high = (float(self.constants[name]) for name in node.input[1:3])
        return low, high

    def _move(self, node, inputs, attributes, values):
        moved = _MOVE[node.op_type](inputs, attributes, len(node.output))
        before = inputs[0].grid if isinstance(inputs[0], Integers) else None
        for name, part in zip(node.output, moved, strict=True):
            grid = self.grids.get(name)
            value = part if before is None else Integers(part, before)
            if grid is not None and (before is None or not _alike(grid, before)):
                value = Integers(grid.quantize(_real(value)), grid)
            values[name] = value

    def _compute(self, node, inputs, attributes, grid):
        on_integers = grid is not None and isinstance(inputs[0], Integers)
        if node.op_type in ("Conv", "Gemm") and on_integers:
            return self._layer(node, inputs, attributes, grid)
        if node.op_type in _KERNELS and grid and all(isinstance(x, Integers) for x in inputs):
            return Integers(_KERNELS[node.op_type](inputs, attributes, grid), grid)
        if node.op_type not in _FLOATS:
            raise NotImplementedError(f"{node.op_type} ({node.output[0]})")
        real = _FLOATS[node.op_type](
            [_real(x) if isinstance(x, Integers) else x for x in inputs], attributes
        )
        if node.op_type in CLIPS and grid is not None:
            grid = grid.cut(*self._bounds(node))
        return real if grid is None else Integers(grid.quantize(real), grid)

    def _layer(self, node, inputs, attributes, grid):
        x, weight = inputs[0], inputs[1]
        kernel = self.grids[node.input[1]]
        if node.op_type == "Gemm":
            assert attributes.get("transB", 0) == 1
            assert attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
        integers = kernel.quantize(weight) - kernel._spread(weight.ndim)[1]
        step = (x.grid.scale * kernel.scale).astype(FLOAT)  # of the sums, one a channel or one
        if node.op_type == "Conv":
            total = convolve(x.centred, integers, attributes)
        else:
            total = x.centred @ integers.T
        shape = [1, -1] + [1] * (total.ndim - 2)
        if len(inputs) > 2:
            bias = np.rint(inputs[2].astype(np.float64) / step.astype(np.float64))
            if np.abs(bias).max() > WIDEST_BIAS:
                self.overflows[node.output[0]] = float(np.abs(bias).max())
            total = total + bias.astype(np.int64).reshape(shape)
        factor = (step / grid.scale).astype(FLOAT).reshape(shape if step.size > 1 else ())
        rounded = np.rint(total.astype(FLOAT) * factor)
        return Integers(_saturate(rounded + grid.zero, grid), grid)


def _grid(entry):
    unsigned, bits = re.fullmatch(r"(u?)int(\d+)", entry["output_dtype"]).groups()
    size = 1 << int(bits)
    low = 0 if unsigned else -size // 2
    scale = np.asarray(entry["y_scale"], FLOAT)
    zero = np.asarray(entry.get("y_zero_point", 0), np.int64) + np.zeros(scale.shape, np.int64)
    return Grid(scale, zero, low, low + size - 1, entry.get("axis") if scale.ndim else None)


def _alike(one, other):
    return one.axis is None and (one.scale, one.zero) == (other.scale, other.zero)


def _real(value):
    return value.grid.real(value.values) if isinstance(value, Integers) else value


def _saturate(values, grid):
    return np.clip(values, grid.low, grid.high).astype(np.int64)


def windows(x, kernel, strides, dilations):
    """View of x (..., H, W) as (..., rows, columns, kernel height, kernel width)."""
    reach = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(x, reach, (-2, -1))
    return view[
        ..., :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]
    ]  # of each window, every dilation-th value


def _around(attributes):
    assert attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    return (0, 0), (0, 0), (top, bottom), (left, right)


def convolve(x, weight, attributes):
    """Sums of products of integers: x (N, C, H, W), weight (out, C / groups, height, width)."""
    groups = attributes.get("group", 1)
    x = np.pad(x, _around(attributes))  # zeros stand for the zero point, which is off already
    how = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    view = windows(x, weight.shape[2:], *how)
    parts = zip(np.split(view, groups, 1), np.split(weight, groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", v, w) for v, w in parts], 1)


def _add(inputs, attributes, grid):
    """The kernel gathers the zero points in one number; every product is fused with its sum.

    Zero points are those of the uint8 containers, since they are in the float sums.
    """
    one, other = inputs
    if one.values.shape[-1] < other.values.shape[-1]:
        one, other = other, one
    by_one, by_other = (FLOAT(x.grid.scale / grid.scale) for x in (one, other))
    zero_one, zero_other = (FLOAT(x.grid.zero + x.grid.read()) for x in (one, other))
    constant = FLOAT(grid.zero + grid.written()) - _fused(by_one, zero_one, by_other * zero_other)
    contained = [(x.values + x.grid.read()).astype(FLOAT) for x in (one, other)]
    total = _fused(contained[0], by_one, _fused(contained[1], by_other, constant))
    return _saturate(np.rint(total) - grid.written(), grid)


def _fused(one, other, added):
    """``one * other + added``, rounded once."""
    wide = np.longdouble
    return (wide(one) * wide(other) + wide(added)).astype(FLOAT)


def _multiply(inputs, attributes, grid):
    one, other = inputs
    factor = FLOAT(FLOAT(one.grid.scale * other.grid.scale) / grid.scale)
    product = (one.centred * other.centred).astype(FLOAT) * factor
    contained = np.rint(product + FLOAT(grid.zero + grid.written()))
    return _saturate(contained - grid.written(), grid)


def _global_average(inputs, attributes, grid):
    [x] = inputs
    count = x.values.shape[2] * x.values.shape[3]
    factor = FLOAT(x.grid.scale / FLOAT(grid.scale * FLOAT(count)))
    total = x.centred.sum((2, 3), keepdims=True).astype(FLOAT)
    return _saturate(np.rint(total * factor) + grid.zero, grid)


def _average(inputs, attributes, grid):
    [x] = inputs
    around, kernel = _around(attributes), attributes["kernel_shape"]
    how = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    view = windows(np.pad(_real(x), around), kernel, *how)
    total = np.zeros(view.shape[:-2], FLOAT)
    for place in np.ndindex(*kernel):
        total = total + view[(..., *place)]  # in float32, row after row
    inside = windows(np.pad(np.ones(x.values.shape[-2:], FLOAT), around[2:]), kernel, *how)
    count = kernel[0] * kernel[1] if attributes.get("count_include_pad", 0) else inside.sum((2, 3))
    contained = total / FLOAT(count) / grid.scale + FLOAT(grid.zero + grid.written())
    return _saturate(np.rint(contained.astype(FLOAT)) - grid.written(), grid)


def _concatenate(inputs, attributes, grid):
    parts = [np.rint(_real(x) / grid.scale) + grid.zero for x in inputs]
    return _saturate(np.concatenate(parts, attributes["axis"]), grid)


def _mean(inputs, attributes):
    axes = attributes.get("axes")
    axes = inputs[1].tolist() if axes is None else axes
    keep = bool(attributes.get("keepdims", 1))
    return inputs[0].mean(tuple(axes), keepdims=keep, dtype=np.float64).astype(FLOAT)


def _clip(inputs, attributes):
    low, high = (*inputs[1:], None, None)[:2]
    return np.clip(inputs[0], low, high)


def _max_pool(inputs, attributes, outputs):
    assert not attributes.get("ceil_mode", 0)
    x = inputs[0].values if isinstance(inputs[0], Integers) else inputs[0]
    lowest = np.iinfo(np.int64).min if x.dtype == np.int64 else -np.inf
    x = np.pad(x, _around(attributes), constant_values=lowest)
    how = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return [windows(x, attributes["kernel_shape"], *how).max((-2, -1))]


def _resize(inputs, attributes, outputs):
    """Nearest neighbours as PyTorch takes them."""
    assert attributes["mode"] == b"nearest"
    assert attributes["coordinate_transformation_mode"] == b"asymmetric"
    assert attributes["nearest_mode"] == b"floor"
    x = inputs[0].values if isinstance(inputs[0], Integers) else inputs[0]
    for axis, scale in enumerate(inputs[2].tolist()):
        places = np.arange(int(np.floor(x.shape[axis] * scale)))
        x = np.take(x, np.floor(places / scale).astype(int), axis)
    return [x]


def _reshape(inputs, attributes, outputs):
    x, sizes = _plain(inputs), inputs[1].tolist()
    return [x.reshape([size if size else x.shape[i] for i, size in enumerate(sizes)])]


def _flatten(inputs, attributes, outputs):
    x, axis = _plain(inputs), attributes.get("axis", 1)
    return [x.reshape(int(np.prod(x.shape[:axis])), -1)]


def _transpose(inputs, attributes, outputs):
    return [_plain(inputs).transpose(attributes["perm"])]


def _slice(inputs, attributes, outputs):
    starts, ends, axes, steps = (*(x.tolist() for x in inputs[1:]), None, None)[:4]
    index = [slice(None)] * _plain(inputs).ndim
    for place, axis in enumerate(range(len(starts)) if axes is None else axes):
        index[axis] = slice(starts[place], ends[place], 1 if steps is None else steps[place])
    return [_plain(inputs)[tuple(index)]]


def _split(inputs, attributes, outputs):
    places = np.cumsum(inputs[1])[:-1] if len(inputs) > 1 else outputs
    return np.split(_plain(inputs), places, attributes.get("axis", 0))


def _squeeze(inputs, attributes, outputs):
    return [np.squeeze(_plain(inputs), tuple(inputs[1].tolist()))]


def _unsqueeze(inputs, attributes, outputs):
    return [np.expand_dims(_plain(inputs), tuple(inputs[1].tolist()))]


def _same(inputs, attributes, outputs):
    return [_plain(inputs)]


def _plain(inputs):
    return inputs[0].values if isinstance(inputs[0], Integers) else inputs[0]


_KERNELS = {
    "Add": _add,
    "AveragePool": _average,
    "Concat": _concatenate,
    "GlobalAveragePool": _global_average,
    "Mul": _multiply,
}
_FLOATS = {
    "Clip": _clip,
    "ReduceMean": _mean,
    "Relu": lambda inputs, attributes: np.maximum(inputs[0], 0),
}
_MOVE = {
    "Dropout": _same,
    "Flatten": _flatten,
    "Identity": _same,
    "MaxPool": _max_pool,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
