"""What several seeds come to: mean, deviation and interval of each cell's quality and loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import sqrt
from statistics import mean, stdev
from typing import Any

from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.rows import place

_PLACE = ("dataset", "model", "precision", "recipe")
SEED_COLUMNS = (*_PLACE, "seeds", "quality", "unit", "float", "quantized", "loss")
_ROUND = 6
_CONFIDENCE = 0.95


def seed_rows(cells: Iterable[CellResult]) -> Iterator[dict[str, Any]]:
    """A row for each data set, network, precision and recipe, in the order of the cells.

    ``x`` is the mean over the seeds that ended, ``x_deviation`` its standard deviation and
    ``x_low`` and ``x_high`` the 95 % interval of the mean by Student's t; they are empty where
    there is one seed. Shares are 0 to 1.
    """
    groups: dict[tuple[Any, ...], list[CellResult]] = {}
    for cell in cells:
        named = place(cell)
        groups.setdefault(tuple(named[name] for name in _PLACE), []).append(cell)
    for key, members in groups.items():
        ended = [one for one in members if one.status == "complete" and one.quantized is not None]
        qualities = [one.rungs[0].quality for one in ended]
        known = next((one for one in qualities if one is not None), None)
        row = {
            **dict(zip(_PLACE, key, strict=True)),
            "seeds": len(ended),
            "quality": known and known.name,
            "unit": known and known.unit,
        }
        last = [one.quantized.quality if one.quantized else None for one in ended]
        row |= over("float", [one.value for one in qualities if one])
        row |= over("quantized", [one.value for one in last if one])
        row |= over("loss", [one.loss.value for one in ended if one.loss])
        yield row


def over(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation and the mean's 95 % interval (Student's t) as columns."""
    ends = {f"{name}_{part}": None for part in ("deviation", "low", "high")}
    if not values:
        return {name: None, **ends}
    middle = mean(values)
    if len(values) == 1:
        return {name: round(middle, _ROUND), **ends}
    from scipy import stats

    spread = stdev(values)
    half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * spread / sqrt(len(values))
    return {
        name: round(middle, _ROUND),
        f"{name}_deviation": round(spread, _ROUND),
        f"{name}_low": round(middle - half, _ROUND),
        f"{name}_high": round(middle + half, _ROUND),
    }
