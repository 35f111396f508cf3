"""Operators that pick values by their places: indices, orders, the largest, parts of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitladder.operators.record import Emit, Grid, Operator, register
from bitladder.operators.writing import Call, CannotWriteError, Value, Writer

FAMILY = "index"


def taken(w: Writer, c: Call) -> str:
    """``x[...]`` with numbers, slices, None, and one list or tensor of numbers."""
    index = c.args[1] if isinstance(c.args[1], tuple) else (c.args[1],)
    whole, source = _gathered(w, c, _whole(index, c.x.rank))
    sizes = list(c.x.sizes)
    drop, add = [], []
    cuts: list[tuple[int, int, int, int]] = []
    axis = place = 0
    for one in whole:
        if one is None:
            add.append(place)
            place += 1
            continue
        if isinstance(one, slice):
            _sliced(c.x, axis, one, cuts)
            place += 1
        elif isinstance(one, int):
            if c.x.free[axis]:
                raise CannotWriteError("one image of a batch apart from the others")
            at = one % sizes[axis]
            cuts.append((at, at + 1, axis, 1))
            drop.append(axis)
        elif isinstance(one, _Listed):
            place += one.rank
        else:
            raise CannotWriteError(f"an index of type {type(one).__name__}")
        axis += one.rank if isinstance(one, _Listed) else 1
    made: Any = source
    if cuts:
        ends = [w.constant(list(values), "int64") for values in zip(*cuts, strict=True)]
        made = w.one("Slice", [made, *ends])
    for kind, axes in (("Squeeze", drop), ("Unsqueeze", add)):
        if axes:
            made = made if made is c.x else w.moved(c, c.x, made)
            made = w.one(kind, [made, w.constant(axes, "int64")])
    return w.one("Identity", [made]) if made is c.x else str(made)


class _Listed:
    """Where a list of places stood in an index; what it gives has as many dimensions."""

    def __init__(self, rank: int) -> None:
        self.rank = rank


def _whole(index: tuple[Any, ...], rank: int) -> list[Any]:
    """An index with an entry for every dimension."""
    given = sum(one is not None and one is not Ellipsis for one in index)
    left = [slice(None)] * (rank - given)
    found: list[Any] = []
    for one in index:
        found += left if one is Ellipsis else [one]
    return found if Ellipsis in [i for i in index if i is Ellipsis] else found + left


def _gathered(w: Writer, c: Call, index: list[Any]) -> tuple[list[Any], Any]:
    """Take the places of a list first, and what is left of the index."""
    listed = [i for i, one in enumerate(index) if isinstance(one, list | tuple | Value)]
    if not listed:
        return index, c.x
    if len(listed) > 1 or any(isinstance(one, int) for one in index):
        raise CannotWriteError("an index of several tensors, or of a tensor and a number")
    axis = sum(one is not None for one in index[: listed[0]])
    if c.x.free[axis]:
        raise CannotWriteError("images of a batch by their places")
    one = index[listed[0]]
    places, rank = _places(w, c, one, c.x.sizes[axis])
    made = w.one("Gather", [c.x, places], axis=axis)
    if rank != 1 and any(isinstance(i, slice) and i != slice(None) for i in index[listed[0] :]):
        raise CannotWriteError("an index of places in several dimensions and a slice behind it")
    rest = [_Listed(rank) if i == listed[0] else given for i, given in enumerate(index)]
    others = [i for i in rest if not isinstance(i, _Listed) and i != slice(None)]
    return rest, w.moved(c, c.x, made) if others else made


def _places(w: Writer, c: Call, one: Any, size: int) -> tuple[Any, int]:
    if isinstance(one, Value) and one.constant is None:
        if one.floating:
            raise CannotWriteError("an index of real numbers")
        return one, one.rank
    values = np.asarray(one.constant if isinstance(one, Value) else one)
    if values.dtype == bool:
        if values.ndim != 1:
            raise CannotWriteError("a mask of several dimensions as index")
        values = np.flatnonzero(values)
    return w.constant(values % size, "int64"), values.ndim


def _sliced(x: Value, axis: int, one: slice, cuts: list[tuple[int, int, int, int]]) -> None:
    if x.free[axis]:
        if one.start in (None, 0) and one.stop is None and one.step in (None, 1):
            return
        raise CannotWriteError("some images of a batch apart from the others")
    start, stop, step = one.indices(x.sizes[axis])
    if (start, stop, step) != (0, x.sizes[axis], 1):
        cuts.append((start, stop, axis, step))


def _axis(c: Call, value: Any) -> int:
    axis = int(value) % c.x.rank
    if c.x.free[axis]:
        raise CannotWriteError("images of a batch apart from one another")
    return axis


def _selected(w: Writer, c: Call) -> str:
    axis = _axis(c, c.get(1, "dim"))
    at = int(c.get(2, "index")) % c.x.sizes[axis]
    ends = [w.constant([v], "int64") for v in (at, at + 1, axis)]
    part = w.moved(c, c.x, w.one("Slice", [c.x, *ends]))
    return w.one("Squeeze", [part, w.constant([axis], "int64")])


def _narrowed(w: Writer, c: Call) -> str:
    axis, start, length = _axis(c, c.get(1, "dim")), int(c.get(2, "start")), int(c.get(3, "length"))
    start %= max(c.x.sizes[axis], 1)
    ends = [w.constant([v], "int64") for v in (start, start + length, axis)]
    return w.one("Slice", [c.x, *ends])


def _index_selected(w: Writer, c: Call) -> str:
    return w.one("Gather", [c.x, c.get(2, "index")], axis=_axis(c, c.get(1, "dim")))


def _by_elements(w: Writer, c: Call) -> str:
    return w.one("GatherElements", [c.x, c.get(2, "index")], axis=_axis(c, c.get(1, "dim")))


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _reversed(w: Writer, x: Any, axes: Sequence[int]) -> str:
    ends = [w.constant([v] * len(axes), "int64") for v in (-1, -(2**31))]
    return w.one("Slice", [x, *ends, *(w.constant(v, "int64") for v in (axes, [-1] * len(axes)))])


def _flipped(w: Writer, c: Call) -> str:
    if c.function in ("fliplr", "flipud"):
        given: Any = [1 if c.function == "fliplr" else 0]
    else:
        given = _list(c.args[1]) if len(c.args) == 2 else c.args[1:] or c.kwargs["dims"]
    return _reversed(w, c.x, [_axis(c, axis) for axis in given])


def _quarter_turned(w: Writer, c: Call) -> str:
    """Turns in a plane: a transposition between two reversals."""
    times = int(c.get(1, "k", 1)) % 4
    first, second = (_axis(c, axis) for axis in c.get(2, "dims", [0, 1]))
    if times == 0:
        return w.one("Identity", [c.x])
    if times == 2:
        return _reversed(w, c.x, [first, second])
    order = list(range(c.x.rank))
    order[first], order[second] = second, first
    if times == 1:
        part = w.moved(c, c.x, _reversed(w, c.x, [second]))
        return w.one("Transpose", [part], perm=order)
    return _reversed(w, w.moved(c, c.x, w.one("Transpose", [c.x], perm=order)), [second])


def _rolled(w: Writer, c: Call) -> str:
    shifts, axes = c.get(1, "shifts"), c.get(2, "dims")
    if axes is None or axes in ((), []):
        raise CannotWriteError("roll without dims")
    made: Any = c.x
    for shift, given in zip(_list(shifts), _list(axes), strict=True):
        axis = _axis(c, given)
        length = c.x.sizes[axis]
        at = length - int(shift) % length
        if at == length:
            continue
        parts = []
        for low, high in ((at, length), (0, at)):
            ends = [w.constant([v], "int64") for v in (low, high, axis)]
            parts.append(w.moved(c, c.x, w.one("Slice", [made, *ends])))
        joined = w.one("Concat", parts, axis=axis)
        made = w.moved(c, c.x, joined)
    return w.one("Identity", [made]) if made is c.x else str(made)


def _interleaved(w: Writer, c: Call) -> str:
    """Every value several times, one after another."""
    times, given = c.get(1, "repeats"), c.get(2, "dim")
    if not isinstance(times, int) or given is None:
        raise CannotWriteError("repeats of each value their own, or without dim")
    axis = _axis(c, given)
    after = w.constant([axis + 1], "int64")
    made = w.moved(c, c.x, w.one("Unsqueeze", [c.x, after]))
    counts = [1] * (c.x.rank + 1)
    counts[axis + 1] = times
    made = w.moved(c, c.x, w.one("Tile", [made, w.constant(counts, "int64")]))
    shape = [-1 if free else n for n, free in zip(c.result.sizes, c.result.free, strict=True)]
    return w.one("Reshape", [made, w.constant(shape, "int64")])


def _ordered(w: Writer, c: Call) -> list[str]:
    """The largest or smallest values in order, and their places."""
    if c.function == "topk":
        count, given = c.get(1, "k"), c.get(2, "dim", -1)
        largest = bool(c.get(3, "largest", True))
    else:
        given, count = c.get(1, "dim", -1), None
        largest = bool(c.get(2, "descending", False))
    axis = _axis(c, given)
    count = w.constant([int(c.x.sizes[axis] if count is None else count)], "int64")
    made = w.node("TopK", [c.x, count], outputs=2, axis=axis, largest=int(largest), sorted=1)
    return made[1:] if c.function == "argsort" else made


def _triangle(upper: bool) -> Emit:
    def emit(w: Writer, c: Call) -> str:
        diagonal = w.constant(np.asarray(int(c.get(1, "diagonal", 0))), "int64")
        return w.one("Trilu", [c.x, diagonal], upper=int(upper))

    return emit


def _put(w: Writer, c: Call) -> str:
    """``x`` with other values where slices of an index point to, each dimension a slice."""
    index = c.args[1] if isinstance(c.args[1], tuple) else (c.args[1],)
    whole = _whole(index, c.x.rank)
    if any(not isinstance(one, slice | int) for one in whole):
        raise CannotWriteError("values put where lists or tensors point to")
    mask = np.zeros([1 if f else n for n, f in zip(c.x.sizes, c.x.free, strict=True)], bool)
    for axis, one in enumerate(whole):
        if c.x.free[axis] and one != slice(None):
            raise CannotWriteError("some images of a batch apart from the others")
    mask[tuple(slice(None) if f else i for i, f in zip(whole, c.x.free, strict=True))] = True
    value = c.args[2]
    if isinstance(value, int | float):
        return w.one("Where", [w.constant(mask, bool), w.constant(float(value)), c.x])
    return w.one("Where", [w.constant(mask, bool), _spread(w, c, value, whole, mask), c.x])


def _spread(w: Writer, c: Call, value: Value, whole: list[Any], mask: Any) -> Any:
    """A value with each of its numbers at the place that an index gives it."""
    cut = [axis for axis, one in enumerate(whole) if isinstance(one, int)]
    kept = c.x.rank - len(cut)
    source: Any = value
    if value.rank < kept:
        source = w.one("Unsqueeze", [source, w.constant(list(range(kept - value.rank)), "int64")])
    if cut:
        source = w.one("Unsqueeze", [source, w.constant(cut, "int64")])
    sizes = [1] * (kept - value.rank) + list(value.sizes)
    for axis in cut:
        sizes.insert(axis, 1)
    for axis, one in enumerate(whole):
        if c.x.free[axis] or sizes[axis] == 1:
            continue
        places = np.zeros(c.x.sizes[axis], np.int64)
        at = np.arange(c.x.sizes[axis])[one]
        places[at] = np.arange(len(at))
        source = w.one("Gather", [source, w.constant(places, "int64")], axis=axis)
    return source


def _moves(name: str, emit: Emit, *functions: str) -> Operator:
    return Operator(name, FAMILY, emit, functions=functions, grid=Grid.INPUT)


register(
    _moves("getitem", taken, "getitem"),
    _moves("select", _selected, "select"),
    _moves("narrow", _narrowed, "narrow"),
    _moves("index_select", _index_selected, "index_select"),
    _moves("gather", _by_elements, "gather"),
    _moves("flip", _flipped, "flip", "fliplr", "flipud"),
    _moves("rot90", _quarter_turned, "rot90"),
    _moves("roll", _rolled, "roll"),
    _moves("repeat_interleave", _interleaved, "repeat_interleave"),
    _moves("topk", _ordered, "topk", "sort"),
    _moves("tril", _triangle(False), "tril"),
    _moves("triu", _triangle(True), "triu"),
    Operator("argsort", FAMILY, _ordered, functions=("argsort",), grid=Grid.NONE),
    Operator("put", FAMILY, _put, functions=("put",), grid=Grid.FLOAT,
             why="its values come from two tensors, each on a grid of its own"),
)  # fmt: skip
