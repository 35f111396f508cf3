"""Resizes: nearest neighbours only move values; all others compute new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bitladder.operators.pooling import adaptive_average
from bitladder.operators.record import Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Writer, along_dimension

FAMILY = "resize"
_NAMES = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
_ONNX = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear",
         "bicubic": "cubic", "nearest-exact": "nearest"}  # fmt: skip


def _settings(module: nn.Module | None, args: Any, kwargs: Any) -> dict[str, Any]:
    given = {
        name: args[place] if len(args) > place else kwargs.get(name)
        for place, name in enumerate(_NAMES, 1)
    }
    for name in _NAMES:
        if given[name] is None and module is not None:
            given[name] = getattr(module, name, None)
    given["mode"] = given["mode"] or "nearest"
    return given


def _resized(w: Writer, c: Call) -> str:
    given = _settings(c.module, c.args, c.kwargs)
    if given["antialias"]:
        raise CannotWriteError("antialias")
    if given["mode"] not in _ONNX:
        return _area(w, c, given["mode"])
    if given["mode"].startswith("nearest") and not _is_whole(c):
        return _picked(w, c, given)
    if given["mode"] == "bicubic" and not w.whole:
        return _multiplied(w, c, given)
    scales = [1.0, 1.0, *_scales(c, given)]
    empty = w.constant(np.zeros(0, np.float32))
    attributes: dict[str, Any] = {"mode": _ONNX[given["mode"]]}
    if given["mode"] == "nearest":
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif given["mode"] == "nearest-exact":
        attributes |= {
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    elif given["align_corners"]:
        attributes["coordinate_transformation_mode"] = "align_corners"
    else:
        # What ONNX calls PyTorch's has a rule of its own for one pixel, which PyTorch has not.
        attributes["coordinate_transformation_mode"] = "half_pixel"
    if given["mode"] == "bicubic":
        attributes["cubic_coeff_a"] = -0.75
    return w.one("Resize", [c.x, empty, w.constant(np.asarray(scales, np.float32))], **attributes)


def _is_whole(c: Call) -> bool:
    """Whether every size is multiplied by a whole number."""
    return all(out % size == 0 for size, out in zip(c.x.sizes[2:], c.result.sizes[2:], strict=True))


def _picked(w: Writer, c: Call, given: dict[str, Any]) -> str:
    """Nearest neighbours by their places, since runtimes round a place between two otherwise."""
    factors = given["scale_factor"]
    many = isinstance(factors, list | tuple)
    made: Any = c.x
    for axis, (size, wanted) in enumerate(zip(c.x.sizes[2:], c.result.sizes[2:], strict=True)):
        factor = None if factors is None else float(factors[axis] if many else factors)
        line = torch.arange(size, dtype=torch.float32).view(1, 1, -1)
        places = functional.interpolate(
            line,
            size=wanted if factor is None else None,
            scale_factor=factor,
            mode=given["mode"],
            recompute_scale_factor=given["recompute_scale_factor"],
        )
        indices = w.constant(places.flatten().numpy(), "int64")
        part = w.one("Gather", [made, indices], axis=2 + axis)
        made = part if axis == c.x.rank - 3 else w.moved(c, c.x, part)
    return str(made)


def _multiplied(w: Writer, c: Call, given: dict[str, Any]) -> str:
    """A matrix for each dimension: sums of four neighbours.

    ONNX Runtime moves transpositions of its integer kernels through a resize, and then refuses a
    cubic one whose channels come last.
    """
    made: Any = c.x
    for axis, size in enumerate(c.x.sizes[2:]):
        lines = torch.eye(size).view(1, size, size, 1)  # a channel for each place
        made = along_dimension(w, made, axis, 2, _resized_line(lines, axis, c, given).numpy())
    return str(made)


def _resized_line(lines: Tensor, axis: int, c: Call, given: dict[str, Any]) -> Tensor:
    """What PyTorch makes of one dimension, (size of the result, channels of ``lines``)."""
    factors = given["scale_factor"]
    factor = factors[axis] if isinstance(factors, list | tuple) else factors
    resized = functional.interpolate(
        lines,
        size=(c.result.sizes[2 + axis], 1) if factors is None else None,
        scale_factor=None if factors is None else (float(factor), 1.0),
        mode=given["mode"],
        align_corners=given["align_corners"],
        recompute_scale_factor=given["recompute_scale_factor"],
    )
    return resized[0, :, :, 0].T.contiguous()


def _scales(c: Call, given: dict[str, Any]) -> list[float]:
    """What sizes are multiplied by, so that rounding down gives just the sizes of the result."""
    factors = given["scale_factor"]
    many = isinstance(factors, list | tuple)
    found = []
    for place, (size, wanted) in enumerate(zip(c.x.sizes[2:], c.result.sizes[2:], strict=True)):
        scale = wanted / size
        if factors is not None and not given["recompute_scale_factor"]:
            scale = float(factors[place] if many else factors)
        scale = float(np.float32(scale))
        while scale * size < wanted:  # in double, as shapes are inferred
            scale = float(np.nextafter(np.float32(scale), np.float32(np.inf)))
        found.append(scale)
    return found


def _area(w: Writer, c: Call, mode: str) -> str:
    """Means over windows, as an adaptive average pool has them."""
    if mode != "area":
        raise CannotWriteError(f"mode {mode}")
    return adaptive_average(w, c)


def _grid(module: nn.Module | None, node: fx.Node) -> Grid:
    mode = _settings(module, node.args, node.kwargs)["mode"]
    return Grid.INPUT if mode in ("nearest", "nearest-exact") else Grid.OWN


register(
    Operator(
        "Resize",
        FAMILY,
        _resized,
        modules=("aimet.Interpolate", "nn.Upsample", "nn.UpsamplingNearest2d",
                 "nn.UpsamplingBilinear2d"),
        becomes=("interpolate", "upsample"),
        depends=_grid,
    ),
)  # fmt: skip
