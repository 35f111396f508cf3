"""What ONNX Runtime's integer kernels compute, in PyTorch, to the last bit.

The graph is the one that the runtime has optimised and executes. Integers are held in float32,
whose sums are exact up to 2^24; a layer that could exceed that is summed in parts. What follows a
sum is the kernels' own arithmetic: an int32 bias, one multiplication in float32, one rounding half
to even, saturation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from bitladder.errors import TargetError

_EXACT = 1 << 24  # integers up to here are exact in float32
_NHWC_TO_NCHW = (0, 3, 1, 2)
_NCHW_TO_NHWC = (0, 2, 3, 1)
# Attributes by operation, and the value that they have wherever networks are written by PyTorch.
_USUAL: dict[str, dict[str, Any]] = {
    "MaxPool": {"auto_pad": b"NOTSET"},
    "NhwcMaxPool": {"auto_pad": b"NOTSET"},
    "QGemm": {"alpha": 1.0, "transA": 0},
    "QLinearAveragePool": {"auto_pad": b"NOTSET", "ceil_mode": 0},
    "QLinearConv": {"auto_pad": b"NOTSET"},
}


class IntegerModel:
    """An optimised QDQ graph, computed as its integer kernels do.

    Args:
        graph: as ONNX Runtime writes it with ``optimized_model_filepath``.

    Raises:
        TargetError: an operation is none whose integer arithmetic is known.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = [_Node(node) for node in graph.node]
        for node in self.nodes:
            _check(node)
        self.constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
        self.types = {
            tensor.name: numpy_helper.to_array(tensor).dtype for tensor in graph.initializer
        }
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.last_use = {name: node for node in self.nodes for name in node.inputs}

    @torch.no_grad()
    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, C, H, W) to logits (N, classes)."""
        values = {self.input: torch.from_numpy(np.ascontiguousarray(images))}
        for node in self.nodes:
            given = [values.get(name, self.constants.get(name)) for name in node.inputs]
            results = _OPERATIONS[node.kind](self, node, given)
            results = results if isinstance(results, tuple) else (results,)
            values.update(zip(node.outputs, results, strict=False))
            for name in node.inputs:
                if self.last_use.get(name) is node and name != self.output:
                    values.pop(name, None)
        return values[self.output].numpy()

    def limits(self, zero_point: str) -> tuple[float, float]:
        """Smallest and largest integer of the type that a zero point has."""
        found = np.iinfo(self.types[zero_point])
        return float(found.min), float(found.max)


class _Node:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.kind = node.op_type
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.parts: list[tuple[slice, Tensor]] | None = None  # of a layer's weight

    def get(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)


Operation = Callable[[IntegerModel, _Node, list[Any]], Any]


def _check(node: _Node) -> None:
    if node.kind not in _OPERATIONS:
        raise TargetError(f"no integer arithmetic is known for the operation {node.kind}")
    for name, usual in _USUAL.get(node.kind, {}).items():
        if node.get(name, usual) != usual:
            raise TargetError(f"no integer arithmetic is known for {node.kind} with {name}")


def _constant(tensor: onnx.TensorProto) -> Tensor:
    values = numpy_helper.to_array(tensor)
    if values.dtype == np.int32:  # biases can exceed what float32 holds
        return torch.from_numpy(values.astype(np.float64))
    if values.dtype == np.int64:  # shapes
        return torch.from_numpy(values.copy())
    return torch.from_numpy(values.astype(np.float32))


def _spread(values: Tensor, axis: int, dimensions: int) -> Tensor:
    """One value, or one a channel, shaped for a tensor."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * dimensions
    shape[axis] = -1
    return values.reshape(shape)


def _round(values: Tensor, zero_point: Tensor, limits: tuple[float, float]) -> Tensor:
    """Round half to even, add the zero point, saturate."""
    return values.round_().add_(zero_point).clamp_(*limits)


def _round_whole(values: Tensor, limits: tuple[float, float]) -> Tensor:
    """Round half to even what has the zero point in it, saturate."""
    return values.round_().clamp_(*limits)


def _quantize(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, scale, zero = given
    axis = node.get("axis", 1)
    spread = _spread(scale, axis, x.dim()), _spread(zero, axis, x.dim())
    return _round(x / spread[0], spread[1], model.limits(node.inputs[2]))


def _dequantize(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, scale, zero = given
    axis = node.get("axis", 1)
    values: Tensor = (x - _spread(zero, axis, x.dim())).float()
    return values * _spread(scale, axis, x.dim())


def _convolve(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero, *bias = given
    last = bool(node.get("channels_last", 0))
    x = x.permute(_NHWC_TO_NCHW) if last else x
    x = x - x_zero
    groups = node.get("group", 1)
    if node.parts is None:
        low, high = model.limits(node.inputs[2])
        widest = max(high - float(x_zero), float(x_zero) - low)
        node.parts = _parts(weight - _spread(w_zero, 0, weight.dim()), widest, groups)
    pads = node.get("pads", [0, 0, 0, 0])
    x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2])) if any(pads) else x
    how = {
        "stride": node.get("strides", [1, 1]),
        "dilation": node.get("dilations", [1, 1]),
        "groups": groups,
    }
    total: Any = 0
    for channels, part in node.parts:
        total = total + functional.conv2d(x[:, channels].to(part.dtype), part, **how).double()
    y = _requantize(total, bias, x_scale * w_scale / y_scale, 1)
    y = _round(y, y_zero, model.limits(node.inputs[7]))
    return y.permute(_NCHW_TO_NHWC) if last else y


def _parts(weight: Tensor, widest: float, groups: int) -> list[tuple[slice, Tensor]]:
    """Input channels that can be summed exactly, with their weights."""
    channels = weight.shape[1]
    for count in range(1, channels + 1):
        size = -(-channels // count)
        slices = [slice(start, start + size) for start in range(0, channels, size)]
        parts = [weight[:, part] for part in slices]
        reach = max(float(part.abs().flatten(1).sum(1).max()) for part in parts)
        if reach * widest <= _EXACT:
            break
    if groups > 1:  # a group's channels lie apart in the input: never divided
        return [(slice(None), weight.double() if count > 1 else weight)]
    return list(zip(slices, parts, strict=True))


def _requantize(total: Tensor, bias: list[Any], factor: Tensor, axis: int) -> Tensor:
    """An exact sum, its bias added, as float32 times the factor in float32."""
    if bias and bias[0] is not None:
        total = total + _spread(bias[0], axis, total.dim())
    product: Tensor = total.float() * _spread(factor, axis, total.dim())
    return product


def _gemm(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = (*given, None, None)[:9]
    weight = b if node.get("transB", 0) else b.t()
    weight = weight - _spread(b_zero, 0, 2)
    total = (a - a_zero).double() @ weight.double().t()
    if y_scale is None:
        return _requantize(total, [bias], a_scale * b_scale, 1)
    y = _requantize(total, [bias], a_scale * b_scale / y_scale, 1)
    return _round(y, y_zero, model.limits(node.inputs[8]))


def _add(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    """Addition, which the kernel does with zero points gathered in one number before the sums."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    if a.shape[-1] < b.shape[-1]:  # one number for a whole row comes second
        a, a_scale, a_zero, b, b_scale, b_zero = b, b_scale, b_zero, a, a_scale, a_zero
    by_a, by_b = a_scale / y_scale, b_scale / y_scale
    fixed = y_zero - _fused(by_a, a_zero, by_b * b_zero)
    summed = _fused(a, by_a, _fused(b, by_b, fixed))
    return _round_whole(summed, model.limits(node.inputs[7]))


def _fused(factor: Tensor, other: Tensor, added: Tensor) -> Tensor:
    """A product and a sum that are rounded once, as processors with FMA do."""
    return (factor.double() * other.double() + added.double()).float()


def _multiply(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    product = (a - a_zero) * (b - b_zero) * (a_scale * b_scale / y_scale)
    return _round_whole(product + y_zero, model.limits(node.inputs[7]))


def _pool_average(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    """Average pooling, which the kernel does on real values, window by window."""
    x, x_scale, x_zero, y_scale, y_zero = given
    last = bool(node.get("channels_last", 0))
    x = x.permute(_NHWC_TO_NCHW) if last else x
    x = (x - x_zero) * x_scale
    window, strides = node.get("kernel_shape", None), node.get("strides", [1, 1])
    pads = node.get("pads", [0, 0, 0, 0])
    around = (pads[1], pads[3], pads[0], pads[2])
    total = _window_sum(functional.pad(x, around), window, strides)
    if node.get("count_include_pad", 0):
        count = torch.tensor(float(window[0] * window[1]))
    else:
        count = _window_sum(functional.pad(torch.ones_like(x[:1, :1]), around), window, strides)
    y = _round_whole(total / count / y_scale + y_zero, model.limits(node.inputs[4]))
    return y.permute(_NCHW_TO_NHWC) if last else y


def _window_sum(x: Tensor, window: list[int], strides: list[int]) -> Tensor:
    """Sums over windows, row after row, as a loop over them adds."""
    height, width = ((x.shape[2 + i] - window[i]) // strides[i] + 1 for i in range(2))
    total = torch.zeros_like(x[:, :, :height, :width])
    for row in range(window[0]):
        for column in range(window[1]):
            part = x[:, :, row :: strides[0], column :: strides[1]]
            total = total + part[:, :, :height, :width]
    return total


def _average(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, x_scale, x_zero, y_scale, y_zero = given
    places = (1, 2) if node.get("channels_last", 0) else (2, 3)
    count = x.shape[places[0]] * x.shape[places[1]]
    total = (x - x_zero).double().sum(places, keepdim=True).float()
    return _round(total * (x_scale / (y_scale * count)), y_zero, model.limits(node.inputs[4]))


def _concatenate(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    y_scale, y_zero, *inputs = given
    limits = model.limits(node.inputs[1])
    parts = []
    for x, scale, zero in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True):
        parts.append(_round((x - zero) * scale / y_scale, y_zero, limits))
    return torch.cat(parts, node.get("axis", 1))


def _max_pool(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    [x] = given
    last = node.kind == "NhwcMaxPool"
    x = x.permute(_NHWC_TO_NCHW) if last else x
    pads = node.get("pads", [0, 0, 0, 0])
    x = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=float("-inf"))
    y = functional.max_pool2d(
        x,
        node.get("kernel_shape", None),
        node.get("strides", [1, 1]),
        dilation=node.get("dilations", [1, 1]),
        ceil_mode=bool(node.get("ceil_mode", 0)),
    )
    return y.permute(_NCHW_TO_NHWC) if last else y


def _mean(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    axes = node.get("axes", None) or given[1].tolist()
    x: Tensor = given[0]
    return x.mean(tuple(axes), keepdim=bool(node.get("keepdims", 1)))


def _transpose(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x: Tensor = given[0]
    return x.permute(tuple(node.get("perm", range(x.dim() - 1, -1, -1))))


def _reshape(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, shape = given
    kept = not node.get("allowzero", 0)
    sizes = [x.shape[i] if not size and kept else size for i, size in enumerate(shape.tolist())]
    reshaped: Tensor = x.reshape(sizes)
    return reshaped


def _flatten(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x: Tensor = given[0]
    return x.flatten(node.get("axis", 1))


def _slice(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x, starts, ends, *rest = (value if i == 0 else value.tolist() for i, value in enumerate(given))
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    part: Tensor = x[tuple(index)]
    return part


def _split(model: IntegerModel, node: _Node, given: list[Any]) -> tuple[Tensor, ...]:
    x, axis = given[0], node.get("axis", 0)
    if len(given) > 1 and given[1] is not None:
        return tuple(x.split(given[1].tolist(), axis))
    return tuple(x.chunk(node.get("num_outputs", len(node.outputs)), axis))


def _same(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    """Layouts of memory, which have no meaning here."""
    x: Tensor = given[0]
    channels = node.get("channels", x.shape[1])
    return x[:, :channels]


def _clip(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    low, high = (*given[1:], None, None)[:2]
    x: Tensor = given[0]
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _relu(model: IntegerModel, node: _Node, given: list[Any]) -> Tensor:
    x: Tensor = given[0]
    return x.clamp(min=0)


_OPERATIONS: dict[str, Operation] = {
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "Flatten": _flatten,
    "MaxPool": _max_pool,
    "NhwcMaxPool": _max_pool,
    "QGemm": _gemm,
    "QLinearAdd": _add,
    "QLinearAveragePool": _pool_average,
    "QLinearConcat": _concatenate,
    "QLinearConv": _convolve,
    "QLinearGlobalAveragePool": _average,
    "QLinearMul": _multiply,
    "QuantizeLinear": _quantize,
    "ReduceMean": _mean,
    "Relu": _relu,
    "ReorderInput": _same,
    "ReorderOutput": _same,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
