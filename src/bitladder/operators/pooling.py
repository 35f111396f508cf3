"""Pools: a maximum only moves values; an average makes new ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitladder.operators.record import Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Writer, along_dimension

FAMILY = "pooling"


_FEW = 4  # values of a window that are added one by one
_WIDE = 4  # windows that share an image out: the HTP saturates averages of this width and more


def _many(value: Any, count: int) -> list[int]:
    return [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)] * count


def _settings(c: Call, names: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
    """What a pool was given: attributes of its module, or arguments of the function."""
    found = {}
    for place, name in enumerate(names, 1):
        value = c.get(place, name)
        if value is None and c.module is not None:
            value = getattr(c.module, name, None)
        found[name] = defaults.get(name) if value is None else value
    return found


_WINDOW = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}


def _maximum(w: Writer, c: Call) -> str:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given, count = _settings(c, names, _WINDOW), c.x.rank - 2
    if given["return_indices"]:
        raise CannotWriteError("return_indices")
    window = _many(given["kernel_size"], count)
    strides, dilations = (
        _many(given["stride"] or window, count),
        _many(given["dilation"], count),
    )
    pads = _many(given["padding"], count)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
    ends = _ends(c, reach, strides, pads)
    # What ceil_mode adds is written as padding, which every runtime reads alike.
    return w.one(
        "MaxPool",
        [c.x],
        kernel_shape=window,
        strides=strides,
        pads=pads + [max(end, 0) for end in ends],
        dilations=dilations,
    )


def _ends(c: Call, reach: list[int], strides: list[int], pads: list[int]) -> list[int]:
    """How far the last window of each dimension reaches over the image's end."""
    given = zip(c.result.sizes[2:], strides, reach, c.x.sizes[2:], pads, strict=True)
    return [(out - 1) * s + k - size - p for out, s, k, size, p in given]


def _average(w: Writer, c: Call) -> str:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
             "divisor_override")  # fmt: skip
    given = _settings(c, names, {"padding": 0, "ceil_mode": False, "count_include_pad": True})
    count = c.x.rank - 2
    window = _many(given["kernel_size"], count)
    strides = _many(given["stride"] or window, count)
    pads = _many(given["padding"], count)
    sizes = [c.x.sizes[2 + i] for i in range(count)]
    ends = _ends(c, window, strides, pads)
    partial = any(end > pad for end, pad in zip(ends, pads, strict=True))
    divisor, counted = given["divisor_override"], given["count_include_pad"] and any(pads)
    # The HTP takes zeros that stand around an image for padding, which it does not count.
    otherwise = w.htp and (_is_wide(window, strides) or w.made_by(c.x) == "Pad")
    if otherwise and count == 2 and divisor is None and not any(pads) and not partial:
        return _averaged_by_convolution(w, c, window, strides)
    if divisor is None and not (counted and partial):
        # What ceil_mode adds is padding that is not counted, which every runtime reads alike.
        return w.one(
            "AveragePool",
            [c.x],
            kernel_shape=window,
            strides=strides,
            pads=pads + (pads if counted else [max(end, 0) for end in ends]),
            count_include_pad=int(counted),
        )
    # Windows that reach over the border: the kernels of runtimes count them differently. Sums of
    # whole windows over zeros are counted alike by all, and the divisors are known here.
    around = [0, 0, *pads, 0, 0, *(max(end, 0) for end in ends)]
    padded = w.one("Pad", [c.x, w.constant(around, "int64")], mode="constant")
    padded = w.moved(c, c.x, padded) if w.htp else padded  # its Pad has no float between integers
    means = w.one("AveragePool", [padded], kernel_shape=window, strides=strides)
    whole = int(np.prod(window))
    if divisor is not None:
        counts = np.full(c.result.sizes[2:], divisor)
    else:
        counts = _counts(sizes, c.result.sizes[2:], window, strides, pads, given)
    factors = (whole / counts).astype(np.float32)[None, None]
    return w.one("Mul", [means, w.constant(factors)])


def _counts(
    sizes: list[int],
    out: tuple[int, ...],
    window: list[int],
    strides: list[int],
    pads: list[int],
    given: dict[str, Any],
) -> Any:
    """What PyTorch divides each window by."""
    lines = []
    for size, length, k, s, p in zip(sizes, out, window, strides, pads, strict=True):
        starts = np.arange(length) * s - p
        ends = np.minimum(starts + k, size + p)
        if not given["count_include_pad"]:
            starts, ends = np.maximum(starts, 0), np.minimum(ends, size)
        lines.append(ends - starts)
    counts = lines[0].astype(np.float64)
    for line in lines[1:]:
        counts = counts[..., None] * line
    return counts


def _even(w: Writer, c: Call, kind: str) -> str | None:
    """An adaptive pool whose windows are all of one size, or None."""
    sizes = list(zip(c.x.sizes[2:], c.result.sizes[2:], strict=True))
    if all(length == 1 for _, length in sizes):
        return w.one(f"Global{kind}", [c.x])
    if any(size % length for size, length in sizes):
        return None
    window = [size // length for size, length in sizes]
    if w.htp and kind == "AveragePool" and _is_wide(window, window):
        return _averaged_by_convolution(w, c, window, window)
    return w.one(kind, [c.x], kernel_shape=window, strides=window)


def _is_wide(window: list[int], strides: list[int]) -> bool:
    """Whether the HTP's average of such windows saturates on the grid of what it reads.

    Seen of windows that share an image out and are 4, 6 or 8 wide, where the step of the result is
    less than 0.7 of that of the image; of the emulator of QAIRT 2.51.
    """
    return len(window) == 2 and window == strides and max(window) >= _WIDE


def _averaged_by_convolution(w: Writer, c: Call, window: list[int], strides: list[int]) -> str:
    """Means of whole windows, as weights that are all 1 on a grid of means."""
    if window == list(c.x.sizes[2:]):
        return w.one("GlobalAveragePool", [c.x])
    channels = c.x.sizes[1]
    grid = [w.constant(1 / np.prod(window)), w.constant(0, "int8")]
    ones = w.constant(np.ones((channels, 1, *window)), "int8")
    kernel = w.one("DequantizeLinear", [ones, *grid])
    return w.one("Conv", [c.x, kernel], group=channels, kernel_shape=window, strides=strides)


def _spans(size: int, length: int) -> list[tuple[int, int]]:
    """Where each of ``length`` windows over ``size`` values begins and ends."""
    return [(i * size // length, -(-(i + 1) * size // length)) for i in range(length)]


def adaptive_average(w: Writer, c: Call) -> str:
    """Means over windows that share an image out, and may overlap."""
    if (even := _even(w, c, "AveragePool")) is not None:
        return even
    out, sizes = c.result.sizes[2:], c.x.sizes[2:]
    spans = [_spans(size, length) for size, length in zip(sizes, out, strict=True)]
    reach = [max(high - low for low, high in line) for line in spans]
    if np.prod(reach) <= _FEW:
        return _summed_places(w, c, spans, reach)
    # Windows of unequal sizes are a matrix for each dimension.
    made: Any = c.x
    for axis, (size, length) in enumerate(zip(sizes, out, strict=True)):
        matrix = np.zeros((length, size))
        for i, (low, high) in enumerate(_spans(size, length)):
            matrix[i, low:high] = 1 / (high - low)
        made = along_dimension(w, made, axis, len(sizes), matrix.astype(np.float32))
    return str(made)


def _summed_places(w: Writer, c: Call, spans: list[list[tuple[int, int]]], reach: list[int]) -> str:
    """Small windows place by place in PyTorch's order: their means often lie between two steps."""
    made: Any = None
    for offsets in np.ndindex(*reach):
        part: Any = c.x
        for axis, (line, offset) in enumerate(zip(spans, offsets, strict=True)):
            places = [min(low + offset, high - 1) for low, high in line]
            part = w.one("Gather", [part, w.constant(places, "int64")], axis=2 + axis)
        inside = _outer([[low + o < high for low, high in line]
                         for line, o in zip(spans, offsets, strict=True)])  # fmt: skip
        part = part if inside.all() else w.one("Mul", [part, w.constant(inside)])
        made = part if made is None else w.one("Add", [made, part])
    counts = _outer([[high - low for low, high in line] for line in spans])
    return w.one("Div", [made, w.constant(counts)])


def _outer(lines: list[list[int]] | list[list[bool]]) -> Any:
    """The product of a number for each place of each dimension."""
    found: Any = np.ones(())
    for line in lines:
        found = found[..., None] * np.asarray(line, np.float32)
    return found


def _adaptive_maximum(w: Writer, c: Call) -> str:
    if getattr(c.module, "return_indices", False) or c.get(2, "return_indices", False):
        raise CannotWriteError("return_indices")
    if (even := _even(w, c, "MaxPool")) is not None:
        return even
    out, sizes = c.result.sizes[2:], c.x.sizes[2:]
    made: Any = c.x
    for axis, (size, length) in enumerate(zip(sizes, out, strict=True), 2):
        parts = []
        for low, high in _spans(size, length):
            ends = [w.constant([v], "int64") for v in (low, high, axis)]
            part = w.moved(c, c.x, w.one("Slice", [made, *ends]))
            most = w.one("ReduceMax", [part, w.constant([axis], "int64")], keepdims=1)
            parts.append(w.moved(c, c.x, most))
        made = w.one("Concat", parts, axis=axis)
    return str(made)


def _power_average(w: Writer, c: Call) -> str:
    """``(sum x^p)^(1/p)`` over windows."""
    given = _settings(c, ("norm_type", "kernel_size", "stride", "ceil_mode"), {"ceil_mode": False})
    if given["ceil_mode"]:
        raise CannotWriteError("ceil_mode of an lp pool")
    count = c.x.rank - 2
    window, power = _many(given["kernel_size"], count), float(given["norm_type"])
    strides = _many(given["stride"] or window, count)
    powers = w.one("Pow", [c.x, w.constant(power)])
    means = w.one("AveragePool", [powers], kernel_shape=window, strides=strides)
    whole = w.constant(float(np.prod(window)))
    sums = w.one("Mul", [means, whole])
    return w.one("Pow", [sums, w.constant(1 / power)])


def _windows(w: Writer, c: Call) -> str:
    """Windows as columns (N, channels x window, windows), each a slice of the padded image."""
    if c.result.rank == c.x.rank + 1:
        return _windows_of_one(w, c)
    if c.x.rank != 4:
        raise CannotWriteError("windows of an image without a batch")
    names = ("kernel_size", "dilation", "padding", "stride")
    given = _settings(c, names, {"dilation": 1, "padding": 0, "stride": 1})
    window, dilation, pads, strides = (_many(given[name], 2) for name in names)
    around = w.constant([0, 0, *pads, 0, 0, *pads], "int64")
    padded = w.moved(c, c.x, w.one("Pad", [c.x, around], mode="constant"))
    out = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, d, p, s in zip(c.x.sizes[2:], window, dilation, pads, strides, strict=True)
    ]
    parts = []
    for row in range(window[0]):
        for column in range(window[1]):
            starts = [row * dilation[0], column * dilation[1]]
            ends = [
                start + (length - 1) * step + 1
                for start, length, step in zip(starts, out, strides, strict=True)
            ]
            cut = [w.constant(v, "int64") for v in (starts, ends, [2, 3], strides)]
            part = w.moved(c, c.x, w.one("Slice", [padded, *cut]))
            axis = w.constant([2], "int64")
            parts.append(w.moved(c, c.x, w.one("Unsqueeze", [part, axis])))
    stacked = w.moved(c, c.x, w.one("Concat", parts, axis=2))
    return w.one("Reshape", [stacked, w.constant([-1, *c.result.sizes[1:]], "int64")])


def _windows_of_one(w: Writer, c: Call) -> str:
    """``x.unfold(dimension, size, step)``: windows along one dimension, their values last."""
    axis, size, step = (int(c.get(i, n)) for i, n in enumerate(("dimension", "size", "step"), 1))
    axis %= c.x.rank
    if c.x.free[axis]:
        raise CannotWriteError("images of a batch apart from one another")
    count = c.result.sizes[axis]
    places = np.arange(count)[:, None] * step + np.arange(size)[None]
    made = w.moved(c, c.x, w.one("Gather", [c.x, w.constant(places, "int64")], axis=axis))
    order = [i for i in range(c.x.rank + 1) if i != axis + 1]
    return w.one("Transpose", [made], perm=[*order, axis + 1])


def _summed_windows(w: Writer, c: Call) -> str:
    """Columns back to an image, overlapping windows summed."""
    names = ("output_size", "kernel_size", "dilation", "padding", "stride")
    given = _settings(c, names, {"dilation": 1, "padding": 0, "stride": 1})
    size, window, dilation, pads, strides = (_many(given[name], 2) for name in names)
    inputs: list[Any] = [c.x, w.constant(size, "int64"), w.constant(window, "int64")]
    return w.one("Col2Im", inputs, dilations=dilation, pads=pads * 2, strides=strides)


_DIMENSIONS = (1, 2, 3)
register(
    Operator(
        "MaxPool",
        FAMILY,
        _maximum,
        modules=("aimet.MaxPool2d", *(f"nn.MaxPool{n}d" for n in _DIMENSIONS)),
        functions=("max_pool1d", "max_pool3d"),
        becomes=("max_pool2d",),
        grid=Grid.INPUT,
    ),
    Operator("AvgPool", FAMILY, _average, modules=("aimet.AvgPool2d", "nn.AvgPool2d"),
             becomes=("avg_pool2d",), within=True),
    Operator("AdaptiveAvgPool", FAMILY, adaptive_average,
             modules=("aimet.AdaptiveAvgPool2d", "nn.AdaptiveAvgPool2d"),
             becomes=("adaptive_avg_pool2d",)),
    *(
        Operator(f"{kind}{n}d", FAMILY, emit, modules=(f"nn.{kind}{n}d",), becomes=(f"{name}{n}d",))
        for n in (1, 3)
        for kind, name, emit in (
            ("AvgPool", "avg_pool", _average),
            ("AdaptiveAvgPool", "adaptive_avg_pool", adaptive_average),
        )
    ),
    Operator(
        "AdaptiveMaxPool",
        FAMILY,
        _adaptive_maximum,
        modules=tuple(f"nn.AdaptiveMaxPool{n}d" for n in _DIMENSIONS),
        functions=tuple(f"adaptive_max_pool{n}d" for n in _DIMENSIONS),
        grid=Grid.INPUT,
    ),
    Operator("Unfold", FAMILY, _windows, modules=("nn.Unfold",), functions=("unfold",),
             grid=Grid.INPUT),
    Operator("Fold", FAMILY, _summed_windows, modules=("nn.Fold",), becomes=("fold",)),
    *(
        Operator(f"LPPool{n}d", FAMILY, _power_average, modules=(f"nn.LPPool{n}d",),
                 becomes=(f"lp_pool{n}d",))
        for n in _DIMENSIONS
    ),
)  # fmt: skip
