"""Operations that only move values, of any type: none of them rounds."""

from __future__ import annotations

import numpy as np

from bitladder.targets.integer.node import Array, Given, Kernel, Node


def _transpose(node: Node, given: Given) -> Array:
    x: Array = given[0]
    return x.transpose(node.get("perm", None))


def _reshape(node: Node, given: Given) -> Array:
    x, shape = given
    kept = not node.get("allowzero", 0)
    sizes = [x.shape[i] if not size and kept else size for i, size in enumerate(shape.tolist())]
    reshaped: Array = x.reshape(sizes)
    return reshaped


def _flatten(node: Node, given: Given) -> Array:
    x: Array = given[0]
    axis = node.get("axis", 1)
    rows = int(np.prod(x.shape[: axis + x.ndim if axis < 0 else axis]))
    return x.reshape(rows, x.size // max(rows, 1))


def _axes(node: Node, given: Given) -> list[int] | None:
    if len(given) > 1 and given[1] is not None:
        axes: list[int] = given[1].tolist()
        return axes
    found: list[int] | None = node.get("axes", None)
    return found


def _squeeze(node: Node, given: Given) -> Array:
    axes = _axes(node, given)
    x: Array = given[0]
    return x.squeeze(None if axes is None else tuple(axes))


def _unsqueeze(node: Node, given: Given) -> Array:
    axes = _axes(node, given)
    assert axes is not None
    return np.expand_dims(given[0], tuple(axes))


def _slice(node: Node, given: Given) -> Array:
    x, starts, ends, *rest = (value if i == 0 or value is None else value.tolist()
                              for i, value in enumerate(given))  # fmt: skip
    axes = rest[0] if rest and rest[0] is not None else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0 and end < -x.shape[axis]:  # beyond the first value, which Python counts again
            index[axis] = slice(start, None, step)
        else:
            index[axis] = slice(start, end, step)
    part: Array = x[tuple(index)]
    return part


def _split(node: Node, given: Given) -> tuple[Array, ...]:
    x, axis = given[0], node.get("axis", 0)
    if len(given) > 1 and given[1] is not None:
        sizes = given[1].tolist()
    else:
        count = node.get("num_outputs", len(node.outputs))
        size = -(-x.shape[axis] // count)
        sizes = [min(size, x.shape[axis] - i * size) for i in range(count)]
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _concatenate(node: Node, given: Given) -> Array:
    return np.concatenate(given, node.get("axis", 0))


def _expand(node: Node, given: Given) -> Array:
    x, shape = given
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist()))).copy()


def _tile(node: Node, given: Given) -> Array:
    return np.tile(given[0], given[1])


def _gather(node: Node, given: Given) -> Array:
    x: Array = given[0]
    taken: Array = x.take(given[1], node.get("axis", 0))
    return taken


def _gather_elements(node: Node, given: Given) -> Array:
    x, places = given
    axis = node.get("axis", 0)
    places = np.where(places < 0, places + x.shape[axis], places)
    around = tuple(slice(size) for size in places.shape)
    cut = tuple(s if i != axis % x.ndim else slice(None) for i, s in enumerate(around))
    return np.take_along_axis(x[cut], places, axis)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(node: Node, given: Given) -> Array:
    x, pads, value, axes = (*given, None, None)[:4]
    places = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    around = [(0, 0)] * x.ndim
    for place, low, high in zip(places, pads[: len(places)], pads[len(places) :], strict=True):
        around[place] = int(low), int(high)
    cut = tuple(slice(max(-low, 0), size - max(-high, 0)) for (low, high), size
                in zip(around, x.shape, strict=True))  # fmt: skip
    grown = [(max(low, 0), max(high, 0)) for low, high in around]
    mode = _PAD_MODES[node.get("mode", "constant")]
    if mode != "constant":
        padded: Array = np.pad(x[cut], grown, mode=mode)  # type: ignore[call-overload]
        return padded
    filled = x.dtype.type(0) if value is None else value.reshape(())
    return np.pad(x[cut], grown, constant_values=filled)


def _depth_to_space(node: Node, given: Given) -> Array:
    x, size = given[0], node.get("blocksize", 1)
    count, channels, height, width = x.shape
    kept = channels // size**2
    if node.get("mode", "DCR") == "DCR":
        blocks = x.reshape(count, size, size, kept, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(count, kept, size, size, height, width).transpose(0, 1, 4, 2, 5, 3)
    moved: Array = blocks.reshape(count, kept, height * size, width * size)
    return moved


def _space_to_depth(node: Node, given: Given) -> Array:
    x, size = given[0], node.get("blocksize", 1)
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // size, size, width // size, size)
    moved: Array = blocks.transpose(0, 3, 5, 1, 2, 4).reshape(
        count, channels * size**2, height // size, width // size
    )
    return moved


def _identity(node: Node, given: Given) -> Array:
    x: Array = given[0]
    return x


MOVEMENT: dict[str, Kernel] = {
    "Concat": _concatenate,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By name; a result has the type of the first input."""
