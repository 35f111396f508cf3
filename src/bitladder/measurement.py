"""A measured quality: never a bare number, but its interval, its unit and how many images it is of.

Counts (an image is right or wrong) have the interval of Wilson (1927); all else has a bootstrap
over images (Efron 1979), percentiles of resamples that the number of images alone seeds. Two
networks that were measured on the same images are compared pairwise: resample ``i`` of both has
the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unit = Literal["share", "dB", ""]
"""``share`` is 0 to 1 and told in percent, its differences in points."""
RESAMPLES = 1000
_Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal
_DIGITS = 6  # of what is drawn or compared with a limit
_CHUNK = 50  # resamples at a time: the weights of a thousand would fill memory


@dataclass(frozen=True)
class Measurement:
    """A quality on some images.

    Attributes:
        name: of the quality, such as ``accuracy``.
        value: the quality, in its unit.
        low: lower end of its 95 % interval.
        high: upper end.
        count: number of images.
        unit: ``share``, ``dB`` or nothing.
        higher_is_better: whether a larger value is the better one.
        scores: one number an image, in their order, or None where an image alone has none.
        resamples: the quality of each resample of the images, or None where it was not needed.
        answers: the class that was given to each image, or None in a task without such
            answers. No part of whether two measurements are equal.
        truth: the class of each image, likewise.
    """

    name: str
    value: float
    low: float
    high: float
    count: int
    unit: Unit = ""
    higher_is_better: bool = True
    scores: tuple[float, ...] | None = field(default=None, repr=False)
    resamples: tuple[float, ...] | None = field(default=None, repr=False)
    answers: tuple[int, ...] | None = field(default=None, repr=False, compare=False)
    truth: tuple[int, ...] | None = field(default=None, repr=False, compare=False)

    @property
    def counted(self) -> bool:
        """Whether it is a share of images that are right."""
        scores = self.scores
        return self.unit == "share" and scores is not None and set(scores) <= {0.0, 1.0}

    def __str__(self) -> str:
        ends = f"[{bare(self.low, self.unit)}, {bare(self.high, self.unit)}]"
        return f"{told(self.value, self.unit)} {ends}"


@dataclass(frozen=True)
class Loss:
    """How much worse one measurement is than another one of the same images.

    Attributes:
        value: the loss, in the unit of both; below zero where it is a gain.
        low: lower end of its paired 95 % interval.
        high: upper end.
        count: number of images.
        unit: of both measurements.
        lost: the images, by number, that were right and are no more; none where nothing is counted.
        gained: those that were wrong and are right.
    """

    value: float
    low: float
    high: float
    count: int
    unit: Unit
    lost: tuple[int, ...] = field(default=(), repr=False)
    gained: tuple[int, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        ends = f"[{bare(self.low, self.unit)}, {bare(self.high, self.unit)}]"
        return f"{bare(self.value, self.unit)} {difference_unit(self.unit)} {ends}"


def proportion(name: str, right: Sequence[bool] | NDArray[Any]) -> Measurement:
    """The share of images that are right, with its Wilson score interval.

    Args:
        name: of the quality.
        right: for each image, whether it is.

    Raises:
        ValueError: there are no images.
    """
    scores = tuple(float(bool(one)) for one in right)
    low, high = wilson(sum(scores), len(scores))
    return Measurement(
        name, sum(scores) / len(scores), low, high, len(scores), "share", True, scores
    )


def average(
    name: str,
    scores: Sequence[float] | NDArray[Any],
    *,
    unit: Unit = "",
    higher_is_better: bool = True,
) -> Measurement:
    """The mean of a score an image, with its bootstrap interval.

    Args:
        name: of the quality.
        scores: of each image.
        unit: of the scores.
        higher_is_better: whether larger scores are better.

    Raises:
        ValueError: there are no images, or a score is not finite.
    """
    import numpy as np

    each = np.asarray(scores, np.float64)
    found = resampled(
        name,
        lambda weights: weights @ each / len(each),
        len(each),
        unit=unit,
        higher_is_better=higher_is_better,
    )
    return Measurement(**{**vars(found), "scores": tuple(each.tolist())})


def resampled(
    name: str,
    quality: Callable[[NDArray[Any]], NDArray[Any]],
    count: int,
    *,
    unit: Unit = "",
    higher_is_better: bool = True,
    scores: Sequence[float] | None = None,
) -> Measurement:
    """Any quality of a set of images, with its bootstrap interval.

    Args:
        name: of the quality.
        quality: maps weights (R, N), how often each image counts, to the qualities (R,).
        count: number of images N.
        unit: of the quality.
        higher_is_better: whether a larger value is the better one.
        scores: one number an image, or None.

    Raises:
        ValueError: there are no images, or the quality is not finite.
    """
    import numpy as np

    if not count:
        raise ValueError(f"{name}: there are no images to measure on")
    value = float(quality(np.ones((1, count)))[0])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: the outputs hold values that are not finite")
    generator, found = np.random.default_rng([0, count]), []
    for _ in range(0, RESAMPLES, _CHUNK):
        weights = generator.multinomial(count, [1 / count] * count, _CHUNK).astype(np.float64)
        found.append(quality(weights))
    resamples = np.concatenate(found)
    low, high = np.percentile(resamples, [2.5, 97.5])
    return Measurement(
        name,
        value,
        min(float(low), value),
        max(float(high), value),
        count,
        unit,
        higher_is_better,
        None if scores is None else tuple(map(float, scores)),
        tuple(resamples.tolist()),
    )


def loss(before: Measurement, after: Measurement) -> Loss:
    """How much worse ``after`` is than ``before``, with the interval of the difference.

    Counted ones have Newcombe's paired interval (Newcombe 1998, Statistics in Medicine 17,
    2635-2650, method 10); others that of the paired resamples.

    Args:
        before: such as of the float network.
        after: such as of the quantized one, on the same images in the same order.

    Raises:
        ValueError: they are of other qualities or other numbers of images, or cannot be paired.
    """
    if (before.name, before.count) != (after.name, after.count):
        raise ValueError(
            f"{before.name} of {before.count} images and {after.name} of {after.count}"
        )
    sign = 1 if before.higher_is_better else -1
    value = sign * (before.value - after.value)
    if before.counted and after.counted:
        assert before.scores is not None
        assert after.scores is not None
        pairs = list(zip(before.scores, after.scores, strict=True))
        lost = tuple(place for place, pair in enumerate(pairs) if pair == (1.0, 0.0))
        gained = tuple(place for place, pair in enumerate(pairs) if pair == (0.0, 1.0))
        low, high = _newcombe(pairs.count((1.0, 1.0)), len(lost), len(gained), before.count)
        return Loss(value, low, high, before.count, before.unit, lost, gained)
    if before.resamples is None or after.resamples is None:
        raise ValueError(f"{before.name}: without scores or resamples there are no pairs")
    import numpy as np

    pairwise = sign * (np.array(before.resamples) - np.array(after.resamples))
    low, high = map(float, np.percentile(pairwise, [2.5, 97.5]))
    return Loss(value, min(low, value), max(high, value), before.count, before.unit)


def wilson(right: float, count: int) -> tuple[float, float]:
    """95 % Wilson score interval (Wilson 1927) of a share, a pair in 0 to 1.

    Raises:
        ValueError: there are no images, or more right ones than images.
    """
    if not 0 <= right <= count or not count:
        raise ValueError(f"{right:g} right of {count} is no share")
    share, z2 = right / count, _Z95 * _Z95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    half /= 1 + z2 / count
    return max(0.0, centre - half), min(1.0, centre + half)


def told(value: float, unit: Unit) -> str:
    """A value with its unit, as tables show it: shares in percent."""
    return f"{bare(value, unit)} {value_unit(unit)}".strip()


def bare(value: float, unit: Unit) -> str:
    """A value or a difference of two, without its unit."""
    return {"share": f"{100 * value:.2f}", "dB": f"{value:.2f}"}.get(unit, f"{value:.4g}")


def scaled(value: float, unit: Unit) -> float:
    """A number as tables, charts and limits have it: shares in percent, differences in points."""
    return float(f"{100 * value if unit == 'share' else value:.{_DIGITS}g}")


def one_digit(value: float) -> float:
    """A number rounded to its first digit."""
    return float(f"{value:.0e}")


def value_unit(unit: Unit) -> str:
    """What stands behind a value."""
    return "%" if unit == "share" else unit


def difference_unit(unit: Unit) -> str:
    """What stands behind a difference of two values."""
    return "points" if unit == "share" else unit


def _newcombe(both: int, lost: int, gained: int, count: int) -> tuple[float, float]:
    """95 % interval of ``(both + lost) / count - (both + gained) / count`` on the same images."""
    first, second = (both + lost) / count, (both + gained) / count
    (low1, high1), (low2, high2) = wilson(both + lost, count), wilson(both + gained, count)
    neither = count - both - lost - gained
    product = both * neither - lost * gained
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    correlation = 0.0
    if margins:
        corrected = max(product - count / 2, 0) if product > 0 else product
        correlation = corrected / math.sqrt(margins)

    def length(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    difference = first - second
    return (
        difference - length(first - low1, high2 - second),
        difference + length(high1 - first, second - low2),
    )
