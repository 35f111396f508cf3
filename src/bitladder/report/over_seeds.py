"""What several seeds and recipes come to, as the page compares them: a row a precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitladder.measurement import bare, difference_unit, value_unit
from bitladder.report.quality import Estimate, Scale, number
from bitladder.report.run_folder import RunFolder


@dataclass(frozen=True)
class OverSeeds:
    """A data set and network at a precision.

    Attributes:
        dataset: its name.
        model: its name.
        precision: as studies write it.
        recipes: by name, mean and spread of the quality and of the loss over the seeds that ended;
            None where none did.
    """

    dataset: str
    model: str
    precision: str
    recipes: Mapping[str, Means | None]

    @property
    def place(self) -> str:
        """Data set and network in words."""
        return f"{self.dataset}, {self.model}"


@dataclass(frozen=True)
class Means:
    """Over the seeds that ended.

    Attributes:
        seeds: how many.
        quality: mean and its 95 % interval.
        loss: of the mean loss, likewise.
        deviation: of the quality from seed to seed, in its unit, or nothing of one seed.
    """

    seeds: int
    quality: Estimate
    loss: Estimate | None
    deviation: str


def over_seeds(run: RunFolder, scale: Scale) -> tuple[list[str], list[OverSeeds]]:
    """The recipes of a run and what they come to; nothing where it has one of one seed.

    Args:
        run: the run's folder.
        scale: of its quality.
    """
    rows: list[dict[str, Any]] = run.seeds.to_dict("records")  # type: ignore[assignment]
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    if len(recipes) < 2 and all(row["seeds"] < 2 for row in rows):
        return [], []
    found: dict[tuple[str, str, str], dict[str, Means | None]] = {}
    for row in rows:
        place = row["dataset"], row["model"], row.get("written_precision") or row["precision"]
        found.setdefault(place, {})[row["recipe"]] = _means(row, scale)
    return recipes, [OverSeeds(*place, means) for place, means in found.items()]


def _means(row: Mapping[str, Any], scale: Scale) -> Means | None:
    quality = _estimate(row, "quantized", scale)
    if quality is None:
        return None
    spread = number(row.get("quantized_deviation"))
    told = "" if spread is None else bare(spread, scale.unit)
    return Means(int(row["seeds"]), quality, _estimate(row, "loss", scale), told)


def _estimate(row: Mapping[str, Any], name: str, scale: Scale) -> Estimate | None:
    value = number(row.get(name))
    if value is None:
        return None
    low, high = (number(row.get(f"{name}_{end}")) for end in ("low", "high"))
    return Estimate(value, low, high, scale.unit)


def heading(scale: Scale) -> str:
    """What the table's numbers are."""
    unit, lost = value_unit(scale.unit), difference_unit(scale.unit)
    return f"{scale.name}{f' in {unit}' if unit else ''}; losses{f' in {lost}' if lost else ''}"
