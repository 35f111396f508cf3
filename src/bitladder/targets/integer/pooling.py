"""Pooling and reductions of integers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bitladder.targets.integer.node import (
    Array,
    Given,
    Kernel,
    Node,
    centred,
    number,
    rounded,
    saturated,
    tensor,
)


def channels_first(x: Array) -> Array:
    """(N, ..., C) as (N, C, ...)."""
    return np.moveaxis(x, -1, 1)


def channels_last(x: Array) -> Array:
    """(N, C, ...) as (N, ..., C)."""
    return np.moveaxis(x, 1, -1)


def padding(
    node: Node,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Padding in front of each dimension, then behind each."""
    count, kind = len(sizes), node.get("auto_pad", "NOTSET")
    if kind == "NOTSET":
        return list(node.get("pads", [0] * 2 * count))
    if kind == "VALID":
        return [0] * 2 * count
    low, high = [], []
    for size, width, stride, dilation in zip(sizes, window, strides, dilations, strict=True):
        reach = dilation * (width - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        half = total // 2 if kind == "SAME_UPPER" else -(-total // 2)
        low.append(half)
        high.append(total - half)
    return low + high


class _Windows:
    """Where the windows of a pooling lie over (N, C, ...)."""

    def __init__(self, node: Node, sizes: Sequence[int]) -> None:
        count = len(sizes)
        self.shape: list[int] = node.get("kernel_shape", None)
        self.strides: list[int] = node.get("strides", [1] * count)
        self.dilations: list[int] = node.get("dilations", [1] * count)
        pads = padding(node, sizes, self.shape, self.strides, self.dilations)
        self.low, high = pads[:count], pads[count:]
        self.results, self.high = [], []
        for i, size in enumerate(sizes):
            reach, stride = self.dilations[i] * (self.shape[i] - 1) + 1, self.strides[i]
            room = size + self.low[i] + high[i] - reach
            if node.get("ceil_mode", 0):
                made = -(-room // stride) + 1
                made -= (made - 1) * stride >= size + self.low[i]  # one that begins behind it
            else:
                made = room // stride + 1
            self.results.append(made)
            self.high.append(max((made - 1) * stride + reach - size - self.low[i], 0))

    def parts(self, x: Array, fill: int) -> list[Array]:
        """The values at each place of a window, of all windows, row after row."""
        around = [(0, 0), (0, 0), *zip(self.low, self.high, strict=True)]
        padded = np.pad(x, around, constant_values=fill)
        found = []
        for place in itertools.product(*map(range, self.shape)):
            index = [slice(None), slice(None)]
            for i, at in enumerate(place):
                start, step = at * self.dilations[i], self.strides[i]
                index.append(slice(start, start + (self.results[i] - 1) * step + 1, step))
            found.append(padded[tuple(index)])
        return found


def _pool_average(node: Node, given: Given) -> Array:
    """Average pooling, which the kernel does on real values, window by window."""
    x, x_scale, x_zero, y_scale, y_zero = (*given, None)[:5]
    last = bool(node.get("channels_last", 0))
    x = channels_first(x) if last else x
    zero = np.zeros((), x.dtype) if x_zero is None else x_zero
    y_zero = np.zeros((), x.dtype) if y_zero is None else y_zero
    real = (x.astype(np.float32) - np.float32(zero.reshape(()))) * number(x_scale)
    windows = _Windows(node, x.shape[2:])
    total = _sum(windows.parts(real, 0))
    if node.get("count_include_pad", 0):
        count: Any = np.float32(np.prod(windows.shape))
    else:
        count = _sum(windows.parts(np.ones_like(real[:1, :1]), 0))
    values = total / count / number(y_scale) + np.float32(y_zero.reshape(()))
    y = saturated(tensor(values).round(), y_zero)
    return channels_last(y) if last else y


def _sum(parts: list[Array]) -> Array:
    """One after the other, as a loop adds."""
    total: Array = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _average(node: Node, given: Given) -> Array:
    x, x_scale, x_zero, y_scale, y_zero = given
    places = tuple(range(1, x.ndim - 1) if node.get("channels_last", 0) else range(2, x.ndim))
    count = np.float32(np.prod([x.shape[place] for place in places]))
    total = centred(x, x_zero, exact=True).sum(places, keepdim=True).float()
    factor = number(x_scale) / (number(y_scale) * count)
    return rounded(total * float(factor), y_zero)


def _max_pool(node: Node, given: Given) -> Array:
    x: Array = given[0]
    last = node.kind == "NhwcMaxPool"
    x = channels_first(x) if last else x
    parts = _Windows(node, x.shape[2:]).parts(x, np.iinfo(x.dtype).min)
    largest = parts[0].copy()
    for part in parts[1:]:
        np.maximum(largest, part, out=largest)
    return channels_last(largest) if last else largest


def _extreme(node: Node, given: Given) -> Array:
    """The largest or smallest integer over axes."""
    x: Array = given[0]
    axes = node.get("axes", None)
    if len(given) > 1 and given[1] is not None:
        axes = given[1].tolist()
    if axes is None or not len(axes):
        axes = [] if node.get("noop_with_empty_axes", 0) else range(x.ndim)
    if not len(axes):
        return x
    choose = np.max if node.kind == "ReduceMax" else np.min
    return np.asarray(choose(x, tuple(axes), keepdims=bool(node.get("keepdims", 1))))


def _place(node: Node, given: Given) -> Array:
    """Where the largest or smallest integer of an axis lies."""
    x: Array = given[0]
    choose = np.argmax if node.kind == "ArgMax" else np.argmin
    axis = node.get("axis", 0)
    if node.get("select_last_index", 0):
        found = x.shape[axis] - 1 - choose(np.flip(x, axis), axis, keepdims=True)
    else:
        found = choose(x, axis, keepdims=True)
    places: Array = np.asarray(found, np.int64)
    return places if node.get("keepdims", 1) else np.squeeze(places, axis)


POOLING: dict[str, tuple[Kernel, int]] = {
    "ArgMax": (_place, -2),
    "ArgMin": (_place, -2),
    "MaxPool": (_max_pool, 0),
    "NhwcMaxPool": (_max_pool, 0),
    "QLinearAveragePool": (_pool_average, 4),
    "QLinearGlobalAveragePool": (_average, 4),
    "ReduceMax": (_extreme, 0),
    "ReduceMin": (_extreme, 0),
}
"""By name, with the input whose type the result has, or -2 where it counts places."""
