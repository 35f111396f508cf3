"""Resizes: PyTorch's own where it has the mode, else values by place or products with a matrix."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitladder.models.onnx_file.builder import Builder, Call, CannotReadError, Value
from bitladder.models.onnx_file.readers.filters import Filter
from bitladder.models.onnx_file.readers.table import reads

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_CUBIC = {4: "bicubic"}


@reads("Resize", "Upsample")
def resize(b: Builder, c: Call) -> Value:
    """Sizes or factors of any dimensions but the batch's."""
    mode = c.attribute("mode", "nearest")
    scales, sizes = _goal(c)
    if c.x.batch is not None and sizes[c.x.batch] != c.x.sizes[c.x.batch]:
        raise CannotReadError("a change of the number of images")
    rule = c.attribute("coordinate_transformation_mode", _usual(c))
    if mode == "nearest":
        return _nearest(b, c, rule, scales, sizes)
    if mode not in ("linear", "bilinear", "cubic"):
        raise CannotReadError(f"mode {mode}")
    kind = Filter(
        cubic=float(c.attribute("cubic_coeff_a", -0.75)) if mode == "cubic" else None,
        smooth=bool(c.attribute("antialias", 0)),
        inside=bool(c.attribute("exclude_outside", 0)),
    )
    alone = rule == "pytorch_half_pixel" and 1 in sizes[2:]  # which PyTorch does otherwise
    known = rule in ("align_corners", "half_pixel", "pytorch_half_pixel") and not alone
    plain = kind in (Filter(), Filter(cubic=-0.75)) and sizes[:2] == list(c.x.sizes[:2])
    torch_mode = _LINEAR.get(c.x.rank) if mode != "cubic" else _CUBIC.get(c.x.rank)
    if known and plain and torch_mode:
        made = _interpolated(b, c, scales, sizes, torch_mode, rule == "align_corners")
        if list(made.sizes) == sizes:  # PyTorch rounds some to others
            return made
    return _by_axis(b, c, rule, scales, sizes, kind)


def _by_axis(
    b: Builder, c: Call, rule: str, scales: list[float], sizes: list[int], kind: Filter
) -> Value:
    """Interpolation at places that PyTorch does not choose, one dimension at a time.

    Linear and ``asymmetric``, a whole factor takes each so many values, or is PyTorch's
    ``align_corners`` of an image whose last line stands there twice. All else is a product with a
    matrix.
    """
    made = c.x
    for axis in range(c.x.rank):
        size, wanted, scale = c.x.sizes[axis], sizes[axis], scales[axis]
        if size == wanted and scale == 1:
            continue
        step = round(1 / scale)
        simple = rule == "asymmetric" and kind == Filter()
        if simple and scale < 1 and abs(step * scale - 1) < 1e-6:
            index = [slice(None)] * c.x.rank
            index[axis] = slice(0, (wanted - 1) * step + 1, step)
            made = b.call(c, operator.getitem, made, tuple(index))
        elif simple and scale == round(scale) and c.x.rank in _LINEAR and axis > 1:
            made = _repeated_last(b, c, made, axis, int(scale))
        else:
            made = b.call(c, torch.transpose, made, axis, -1)
            matrix = kind.matrix(_coordinates(size, wanted, scale, rule), size, scale)
            made = b.call(c, torch.matmul, made, b.constant(matrix))
            made = b.call(c, torch.transpose, made, axis, -1)
    return made


def _repeated_last(b: Builder, c: Call, x: Value, axis: int, factor: int) -> Value:
    ends = [0, 0] * (c.x.rank - 2)
    ends[2 * (c.x.rank - 1 - axis) + 1] = 1
    longer = b.call(c, functional.pad, x, ends, "replicate")
    size = list(longer.sizes[2:])
    size[axis - 2] = x.sizes[axis] * factor + 1
    grown = b.call(c, functional.interpolate, longer, size=size, mode=_LINEAR[c.x.rank],
                   align_corners=True)  # fmt: skip
    index = [slice(None)] * c.x.rank
    index[axis] = slice(0, x.sizes[axis] * factor)
    made: Value = b.call(c, operator.getitem, grown, tuple(index))
    return made


def _usual(c: Call) -> str:
    """What older operators did, which had no choice."""
    return "asymmetric" if c.proto.op_type == "Upsample" or c.opset < 11 else "half_pixel"


def _goal(c: Call) -> tuple[list[float], list[int]]:
    """Factors and sizes of every dimension, one from the other."""
    old = c.proto.op_type == "Upsample" or c.opset < 11
    given, wanted = c.get(1 if old else 2), None if old else c.get(3)
    axes = c.attribute("axes")
    over = [a % c.x.rank for a in axes] if axes else list(range(c.x.rank))
    sizes, scales = list(c.x.sizes), [1.0] * c.x.rank
    if wanted is not None and wanted.constant("sizes").size:
        numbers = wanted.numbers("sizes")
        policy = c.attribute("keep_aspect_ratio_policy", "stretch")
        ratios = [size / c.x.sizes[axis] for axis, size in zip(over, numbers, strict=True)]
        if policy != "stretch":
            one = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [one] * len(over)
            numbers = [int(np.floor(one * c.x.sizes[axis] + 0.5)) for axis in over]
        for axis, size, ratio in zip(over, numbers, ratios, strict=True):
            scales[axis], sizes[axis] = ratio, size
        return scales, sizes
    factors = c.attribute("scales") if given is None else given.constant("scales").reshape(-1)
    if factors is None or not len(factors):
        raise CannotReadError("neither scales nor sizes")
    for axis, factor in zip(over, factors, strict=True):
        scales[axis] = float(factor)
        sizes[axis] = int(np.floor(np.float32(c.x.sizes[axis]) * np.float32(factor)))
    return scales, sizes


def _interpolated(
    b: Builder, c: Call, scales: list[float], sizes: list[int], mode: str, aligned: bool | None
) -> Value:
    exact = all(
        abs(scale * size - wanted) < 1e-6
        for scale, size, wanted in zip(scales, c.x.sizes, sizes, strict=True)
    )
    keywords: dict[str, Any] = {"mode": mode}
    if exact and not all(float(scale).is_integer() for scale in scales):
        keywords["size"] = sizes[2:]
    else:
        keywords["scale_factor"] = scales[2:]
    if aligned is not None:
        keywords["align_corners"] = aligned
    made: Value = b.call(c, functional.interpolate, c.x, **keywords)
    return made


def _nearest(b: Builder, c: Call, rule: str, scales: list[float], sizes: list[int]) -> Value:
    """PyTorch's own where it takes the same places, otherwise those places by number."""
    kind = c.attribute(
        "nearest_mode", "floor" if _usual(c) == "asymmetric" else "round_prefer_floor"
    )
    places = [
        _places(c.x.sizes[axis], sizes[axis], scales[axis], rule, kind) for axis in range(c.x.rank)
    ]
    usual = c.x.rank in _LINEAR and sizes[:2] == list(c.x.sizes[:2])
    for mode in ("nearest", "nearest-exact") if usual else ():
        if all(
            np.array_equal(_torch_places(c.x.sizes[i], sizes[i], mode), found)
            for i, found in enumerate(places)
            if i > 1
        ):
            whole = all(w % s == 0 for s, w in zip(c.x.sizes[2:], sizes[2:], strict=True))
            given: dict[str, Any] = {"mode": mode}
            if whole:
                pairs = zip(c.x.sizes[2:], sizes[2:], strict=True)
                given["scale_factor"] = [float(wanted // size) for size, wanted in pairs]
            else:
                given["size"] = sizes[2:]
            made: Value = b.call(c, functional.interpolate, c.x, **given)
            return made
    picked = c.x
    for i, found in enumerate(places):
        if not np.array_equal(found, np.arange(c.x.sizes[i])):
            picked = b.call(c, torch.index_select, picked, i, b.constant(found))
    return picked


def _places(size: int, wanted: int, scale: float, rule: str, kind: str) -> NDArray[np.int64]:
    """The place in the image that each value of the result comes from, by ONNX's rules."""
    at = _coordinates(size, wanted, scale, rule)
    rounding: dict[str, Any] = {
        "floor": np.floor, "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }  # fmt: skip
    if kind not in rounding:
        raise CannotReadError(f"nearest_mode {kind}")
    found: NDArray[np.int64] = np.clip(rounding[kind](at), 0, size - 1).astype(np.int64)
    return found


def _coordinates(size: int, wanted: int, scale: float, rule: str) -> NDArray[np.float32]:
    """Where each value of the result lies in the image, in its pixels."""
    at, half = np.arange(wanted, dtype=np.float32), np.float32(0.5)  # as runtimes compute it
    factor = np.float32(scale)
    if rule == "half_pixel_symmetric":  # the middle stays the middle where a size was rounded
        adjusted = np.float32(wanted) / (factor * np.float32(size))
        return np.float32(size / 2) * (1 - adjusted) + (at + half) / factor - half
    if rule == "half_pixel" or (rule == "pytorch_half_pixel" and wanted > 1):
        return (at + half) / factor - half
    if rule == "tf_half_pixel_for_nn":
        return (at + half) / factor
    if rule == "asymmetric":
        return at / factor
    if rule == "align_corners":
        return at * np.float32(size - 1) / np.float32(max(wanted - 1, 1))
    if rule == "pytorch_half_pixel":
        return at * np.float32(0)
    raise CannotReadError(f"coordinate_transformation_mode {rule}")


def _torch_places(size: int, wanted: int, mode: str) -> NDArray[Any]:
    line = torch.arange(size, dtype=torch.float32).view(1, 1, -1)
    found: NDArray[Any] = functional.interpolate(line, size=wanted, mode=mode)[0, 0].numpy()
    return found.astype(np.int64)
