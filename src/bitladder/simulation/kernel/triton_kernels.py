"""The kernel's formulas in Triton: what one block of a GPU's threads does with a part of a tensor.

A tensor is read as (pieces, channels, inner) in the order of its memory. Division is rounded as
everywhere else, so that values on the grid are the C++'s to the bit.
"""

# mypy: ignore-errors
# ruff: noqa: D103, N803

import triton
import triton.language as tl


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _round(x):
    """To the nearest integer, half to even: from 2^23 on there are only integers."""
    big = tl.where(x < 0, -8388608.0, 8388608.0)
    return tl.where(tl.abs(x) < 8388608.0, (x + big) - big, x)


@triton.jit
def _grid(low, high, qmin, qmax, symmetric, minimum):
    """Scale, offset, and whether the bounds of the range reach each of them."""
    wanted = tl.abs(tl.div_rn(high - low, low * 0 + (qmax - qmin)))
    scale = tl.where(wanted > minimum, wanted, minimum)
    free = _round(tl.div_rn(low, scale)) - qmin
    kept = tl.minimum(tl.maximum(free, -qmax), -qmin)
    middle = -_round((qmin + qmax) / 2)
    offset = tl.where(symmetric != 0, middle, kept)
    return scale, offset, wanted >= minimum, (free == kept) & (symmetric == 0)


@triton.jit
def _clip(x, floor, ceiling):
    """Between two bounds; what is not a number stays."""
    x = tl.where(x < floor, floor, x)
    return tl.where(x > ceiling, ceiling, x)


@triton.jit(do_not_specialize=["channels", "inner"])
def forward(
    x_at, y_at, low_at, high_at, count, channels, inner,
    qmin, qmax, symmetric, minimum, floor, ceiling,
    ONE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    if WIDE:
        block = block.to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    if ONE:
        low, high = tl.load(low_at), tl.load(high_at)
    else:
        channel = (place // inner) % channels
        low = tl.load(low_at + channel, mask=inside, other=0.0)
        high = tl.load(high_at + channel, mask=inside, other=1.0)
    scale, offset, _, _ = _grid(low, high, qmin, qmax, symmetric, minimum)
    x = _clip(tl.load(x_at + place, mask=inside, other=0.0), floor, ceiling)
    q = _clip(_round(tl.div_rn(x, x * 0 + scale)) - offset, qmin, qmax)
    tl.store(y_at + place, (q + offset) * scale, mask=inside)


@triton.jit
def _store_bounds(
    by_scale, by_offset, dlow_at, dhigh_at,
    low, high, scale, scale_moves, offset_moves, qmin, qmax,
):  # fmt: skip
    """Gradients of both ends of a range from those of its scale and, times the scale, offset."""
    moved = tl.where(offset_moves, by_offset, 0.0)
    by = tl.where(scale_moves, by_scale - moved * low / scale, 0.0)
    sign = tl.where(high > low, 1.0, tl.where(high < low, -1.0, 0.0))
    by = sign * by / (qmax - qmin)
    tl.store(dlow_at, moved - by)
    tl.store(dhigh_at, by)


@triton.jit(do_not_specialize=["channels", "parts", "turns"])
def backward(
    x_at, dy_at, dx_at, low_at, high_at, sums_at, dlow_at, dhigh_at,
    length, channels, inner, parts, turns, qmin, qmax, symmetric, minimum, floor, ceiling,
    WHOLE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of x, and those of a channel's bounds, or the sums of a part of it.

    ``length`` counts the values of a channel, whose pieces of ``inner`` lie apart.
    """
    channel, part = tl.program_id(0), tl.program_id(1)
    if WIDE:
        channel, part = channel.to(tl.int64), part.to(tl.int64)
    low, high = tl.load(low_at + channel), tl.load(high_at + channel)
    scale, offset, scale_moves, offset_moves = _grid(low, high, qmin, qmax, symmetric, minimum)
    by_scale = tl.full((BLOCK,), 0.0, tl.float32)
    by_offset = tl.full((BLOCK,), 0.0, tl.float32)
    for turn in range(turns):
        nth = (part * turns + turn) * BLOCK + tl.arange(0, BLOCK)
        inside = nth < length
        place = ((nth // inner) * channels + channel) * inner + nth % inner
        x = tl.load(x_at + place, mask=inside, other=0.0)
        dy = tl.load(dy_at + place, mask=inside, other=0.0)
        clipped = _clip(x, floor, ceiling)
        u = tl.div_rn(clipped, clipped * 0 + scale)
        rounded = _round(u)
        q = rounded - offset
        kept = _clip(q, qmin, qmax)
        through = tl.where(q == kept, dy, 0.0)
        dx = tl.where((x > floor) & (x < ceiling), through, 0.0)
        tl.store(dx_at + place, dx, mask=inside)
        by_scale += dy * tl.where(q == kept, rounded - u, kept + offset)
        by_offset += dy - through
    of_scale, of_offset = tl.reduce(by_scale, 0, _add), tl.reduce(by_offset, 0, _add)
    if WHOLE:
        _store_bounds(
            of_scale, of_offset, dlow_at + channel, dhigh_at + channel,
            low, high, scale, scale_moves, offset_moves, qmin, qmax,
        )  # fmt: skip
    else:
        at = sums_at + (channel * parts + part) * 2
        tl.store(at, of_scale)
        tl.store(at + 1, of_offset)


@triton.jit(do_not_specialize=["parts"])
def bounds(
    sums_at, low_at, high_at, dlow_at, dhigh_at, parts,
    qmin, qmax, symmetric, minimum, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of both ends of a channel's range from the sums over its parts."""
    channel = tl.program_id(0)
    low, high = tl.load(low_at + channel), tl.load(high_at + channel)
    scale, _, scale_moves, offset_moves = _grid(low, high, qmin, qmax, symmetric, minimum)
    part = tl.arange(0, BLOCK)
    at = sums_at + (channel * parts + part) * 2
    by_scale = tl.reduce(tl.load(at, mask=part < parts, other=0.0), 0, _add)
    by_offset = tl.reduce(tl.load(at + 1, mask=part < parts, other=0.0), 0, _add)
    _store_bounds(
        by_scale, by_offset, dlow_at + channel, dhigh_at + channel,
        low, high, scale, scale_moves, offset_moves, qmin, qmax,
    )  # fmt: skip
