"""Operators that move values: their outputs lie on the grid of their input, and batches stay free.

A network is run on two and on three images before it is written; a size that differs is the
batch's, and never becomes a number in a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

FAMILY = "shape"


def reshape(w: Writer, source: Any, result: Value) -> str:
    """Give values another shape, whatever the number of images."""
    if sum(result.free) > 1:
        raise CannotWriteError("a shape with the batch in two dimensions")
    shape = [-1 if free else size for size, free in zip(result.sizes, result.free, strict=True)]
    return w.one("Reshape", [source, w.constant(shape, "int64")])


def _reshaped(w: Writer, c: Call) -> str:
    return reshape(w, c.x, c.result)


def _same(w: Writer, c: Call) -> str:
    if c.x.floating != c.result.floating:
        if not c.result.floating:
            raise CannotWriteError("a change of type to whole numbers")
        return w.one("Cast", [c.x], to=1)
    return w.one("Identity", [c.x])


def _permuted(w: Writer, c: Call) -> str:
    order = c.args[1] if len(c.args) == 2 and isinstance(c.args[1], list | tuple) else c.args[1:]
    order = order or c.kwargs.get("dims", getattr(c.module, "dims", order))
    return _turned(w, c, [int(axis) % c.x.rank for axis in order])


def _transposed(w: Writer, c: Call) -> str:
    first = c.get(1, "dim0", c.kwargs.get("axis0", 0 if c.function == "t" else None))
    second = c.get(2, "dim1", c.kwargs.get("axis1", 1 if c.function == "t" else None))
    order = list(range(c.x.rank))
    a, b = int(first) % c.x.rank, int(second) % c.x.rank
    order[a], order[b] = order[b], order[a]
    return _turned(w, c, order)


def _moved_axis(w: Writer, c: Call) -> str:
    source, target = c.get(1, "source"), c.get(2, "destination")
    sources = [source] if isinstance(source, int) else list(source)
    targets = [target] if isinstance(target, int) else list(target)
    axes = list(range(c.x.rank))
    given = dict(zip((t % c.x.rank for t in targets), (s % c.x.rank for s in sources), strict=True))
    left = [axis for axis in axes if axis not in given.values()]
    return _turned(w, c, [given[i] if i in given else left.pop(0) for i in axes])


def _turned(w: Writer, c: Call, order: list[int]) -> str:
    return w.one("Transpose", [c.x], perm=order)


def _expanded(w: Writer, c: Call) -> str:
    """Repeat along dimensions of size 1; one that is the batch's takes it from the images.

    The HTP gives something else for a product with an expanded tensor; its operators repeat what is
    small by themselves.
    """
    if w.htp and c.result.rank == c.x.rank and w.is_broadcast(c):
        return w.one("Identity", [c.x])
    added = c.result.rank - c.x.rank
    source: Any = c.x
    if added:
        kept = [-1 if f else s for s, f in zip(c.x.sizes, c.x.free, strict=True)]
        shape = [1] * added + kept
        source = w.moved(c, c.x, w.one("Reshape", [c.x, w.constant(shape, "int64")]))
    sizes = (1,) * added + c.x.sizes
    free = (False,) * added + c.x.free
    parts: list[str] = []
    for size, grows, wanted, wanted_free in zip(
        sizes, free, c.result.sizes, c.result.free, strict=True
    ):
        if wanted_free and not grows:
            parts.append(_times(w, wanted))
        else:
            parts.append(w.constant([1 if grows or size == wanted else wanted], "int64"))
    if all(f or not wf for f, wf in zip(free, c.result.free, strict=True)):
        shape = [
            1 if f or s == wanted else wanted
            for s, f, wanted in zip(sizes, free, c.result.sizes, strict=True)
        ]
        return w.one("Expand", [source, w.constant(shape, "int64")])
    return w.one("Expand", [source, w.one("Concat", parts, axis=0)])


def _times(w: Writer, wanted: int) -> str:
    """The batch, times how often it stands in a size; two images ran."""
    factor = wanted // 2
    if factor == 1:
        return w.batch()
    return w.one("Mul", [w.batch(), w.constant([factor], "int64")])


def _repeated(w: Writer, c: Call) -> str:
    added = c.result.rank - c.x.rank
    source: Any = c.x
    if added:
        kept = [-1 if f else s for s, f in zip(c.x.sizes, c.x.free, strict=True)]
        shape = w.constant([1] * added + kept, "int64")
        source = w.moved(c, c.x, w.one("Reshape", [c.x, shape]))
    sizes, free = (1,) * added + c.x.sizes, (False,) * added + c.x.free
    parts, dynamic = [], False
    for size, grows, wanted, wanted_free in zip(
        sizes, free, c.result.sizes, c.result.free, strict=True
    ):
        if wanted_free and not grows:
            dynamic = True
            if size != 1:
                raise CannotWriteError("repeats as many as images of a dimension that is not 1")
            parts.append(_times(w, wanted))
        else:
            parts.append(w.constant([wanted // max(size, 1)], "int64"))
    if dynamic:
        return w.one("Tile", [source, w.one("Concat", parts, axis=0)])
    times = [wanted // max(size, 1) for size, wanted in zip(sizes, c.result.sizes, strict=True)]
    return w.one("Tile", [source, w.constant(times, "int64")])


def _axis(c: Call, value: Any) -> int:
    return int(value) % c.x.rank


def _split(w: Writer, c: Call) -> list[str]:
    """Parts along a dimension, as many and as large as PyTorch made them."""
    axis = _axis(c, c.get(2, "dim", c.kwargs.get("axis", 0)))
    return _parts(w, c, axis, [part.sizes[axis] for part in c.results])


def _parts(w: Writer, c: Call, axis: int, lengths: Sequence[int]) -> list[str]:
    if c.x.free[axis]:
        raise CannotWriteError("images of a batch apart from one another")
    if len(lengths) == 1:
        return [w.one("Identity", [c.x])]
    sizes = w.constant(list(lengths), "int64")
    return w.node("Split", [c.x, sizes], outputs=len(lengths), axis=axis)


def _unbound(w: Writer, c: Call) -> list[str]:
    axis = _axis(c, c.get(1, "dim", 0))
    parts = _parts(w, c, axis, [1] * c.x.sizes[axis])
    over = w.constant([axis], "int64")
    return [w.one("Squeeze", [w.moved(c, c.x, part), over]) for part in parts]


def _shuffled(w: Writer, c: Call) -> str:
    groups = int(c.get(1, "groups", getattr(c.module, "groups", 1)))
    channels, *rest = c.x.sizes[1:]
    split = w.constant([-1, groups, channels // groups, *rest], "int64")
    made = w.moved(c, c.x, w.one("Reshape", [c.x, split]))
    order = [0, 2, 1, *range(3, 3 + len(rest))]
    made = w.moved(c, c.x, w.one("Transpose", [made], perm=order))
    return w.one("Reshape", [made, w.constant([-1, channels, *rest], "int64")])


def _to_space(w: Writer, c: Call) -> str:
    factor = int(c.get(1, "upscale_factor", getattr(c.module, "upscale_factor", 1)))
    return w.one("DepthToSpace", [c.x], blocksize=factor, mode="CRD")


def _to_depth(w: Writer, c: Call) -> str:
    """PyTorch's order of channels, the image's first, is not ONNX's SpaceToDepth."""
    factor = int(c.get(1, "downscale_factor", getattr(c.module, "downscale_factor", 1)))
    channels, height, width = c.x.sizes[1:]
    small = [height // factor, width // factor]
    split = w.constant([-1, channels, small[0], factor, small[1], factor], "int64")
    made = w.moved(c, c.x, w.one("Reshape", [c.x, split]))
    made = w.moved(c, c.x, w.one("Transpose", [made], perm=[0, 1, 3, 5, 2, 4]))
    return w.one("Reshape", [made, w.constant([-1, *c.result.sizes[1:]], "int64")])


def _concatenated(w: Writer, c: Call) -> str:
    axis = int(getattr(c.module, "_axis", 0))
    return w.one("Concat", list(c.args), axis=axis)


def _joined(w: Writer, c: Call) -> str:
    """Parts of one tensor put together again, along a dimension or along a new one."""
    parts = c.args[0]
    axis = int(c.get(1, "dim", 0))
    if not isinstance(parts, list | tuple):
        raise CannotWriteError("something else than a list of tensors")
    if c.function != "stack":
        return w.one("Concat", list(parts), axis=axis)
    over = w.constant([axis], "int64")
    made = [w.moved(c, c.x, w.one("Unsqueeze", [part, over])) for part in parts]
    return w.one("Concat", made, axis=axis % c.result.rank)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad_settings(module: nn.Module | None, args: Sequence[Any], kwargs: Any) -> Any:
    """Pads as PyTorch lists them, the mode and the value, of a module or of a function's call."""
    own = getattr(module, "padding", None)
    if own is not None:
        name = type(module).__name__
        modes = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}
        mode = next((m for start, m in modes.items() if start in name), "constant")
        return list(own), mode, getattr(module, "value", 0.0)
    given = list(args[1:]) + [None] * 3
    pads = given[0] if given[0] is not None else kwargs.get("pad")
    mode = given[1] if given[1] is not None else kwargs.get("mode", "constant")
    value = given[2] if given[2] is not None else kwargs.get("value")
    return list(pads), mode, 0.0 if value is None else float(value)


def _padded(w: Writer, c: Call) -> str:
    pads, mode, value = pad_settings(c.module, c.args, c.kwargs)
    before, after = [0] * c.x.rank, [0] * c.x.rank
    for place, (low, high) in enumerate(zip(pads[::2], pads[1::2], strict=True), 1):
        before[-place], after[-place] = int(low), int(high)
    around = w.constant(before + after, "int64")
    if mode != "constant":
        return w.one("Pad", [c.x, around], mode=_PAD_MODES[mode])
    if value == 0:
        return w.one("Pad", [c.x, around], mode="constant")
    image: Any = c.x
    if w.htp and math.isfinite(value):
        # It takes the value to be on the grid of the image, which need not reach so far.
        image = w.rounded(c, held := w.one("Identity", [c.x]))
        if image == held:
            raise CannotWriteError("a value around an image that is clamped behind it, on the HTP")
    return w.one("Pad", [image, around, w.constant(float(value))], mode="constant")


def _pad_grid(module: nn.Module | None, node: fx.Node) -> Grid:
    """Zero lies on every grid, and a value of the image on its own; another value does not."""
    _, mode, value = pad_settings(module, node.args, node.kwargs)
    return Grid.INPUT if mode != "constant" or value == 0 else Grid.OWN


def _looked_up(w: Writer, c: Call) -> str:
    return w.one("Gather", [w.parameter(c, "weight"), c.x], axis=0)


def _moves(name: str, emit: Emit, *functions: str, modules: tuple[str, ...] = ()) -> Operator:
    return Operator(name, FAMILY, emit, modules=modules, functions=functions, grid=Grid.INPUT)


_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
             "FeatureAlphaDropout")  # fmt: skip
_PADS = tuple(
    f"nn.{kind}Pad{n}d"
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for n in (1, 2, 3)
)
register(
    _moves("identity", _same, "contiguous", "detach", "clone", "float", "to", "type_as",
           "requires_grad_", "stochastic_depth", "dropout", "dropout1d", "dropout2d", "dropout3d",
           "alpha_dropout", "feature_alpha_dropout", "feature_dropout",
           modules=("nn.Identity", *(f"nn.{name}" for name in _DROPOUTS))),
    _moves("reshape", _reshaped, "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze",
           "reshape_as", "view_as", "ravel",
           modules=("nn.Flatten", "nn.Unflatten")),
    _moves("permute", _permuted, "permute"),
    _moves("transpose", _transposed, "transpose", "swapaxes", "swapdims", "t"),
    _moves("movedim", _moved_axis, "movedim", "moveaxis"),
    _moves("expand", _expanded, "expand", "expand_as", "broadcast_to"),
    _moves("repeat", _repeated, "repeat", "tile"),
    _moves("split", _split, "split", "chunk", "tensor_split", "split_with_sizes"),
    _moves("join parts", _joined, "cat", "concat", "concatenate", "stack"),
    _moves("unbind", _unbound, "unbind"),
    _moves("ChannelShuffle", _shuffled, "channel_shuffle",
           modules=("nn.ChannelShuffle",)),
    _moves("PixelShuffle", _to_space, "pixel_shuffle", modules=("nn.PixelShuffle",)),
    _moves("PixelUnshuffle", _to_depth, "pixel_unshuffle", modules=("nn.PixelUnshuffle",)),
    Operator("Concat", FAMILY, _concatenated, modules=("aimet.Concat",),
             becomes=("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack",
                      "row_stack", "column_stack"), within=True),
    Operator("Pad", FAMILY, _padded, modules=("aimet.Pad", *_PADS), becomes=("pad", "_pad"),
             depends=_pad_grid),
    Operator("Embedding", FAMILY, _looked_up, modules=("nn.Embedding",), weights=("weight",)),
)  # fmt: skip
