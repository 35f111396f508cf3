"""Recipes side by side: how much worse one is than another on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitladder.errors import StudyError, unknown
from bitladder.measurement import loss
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.rows import interval, place

_RECIPE = "recipe"


def compared(cells: Sequence[CellResult], recipes: Sequence[str] | None) -> list[dict[str, Any]]:
    """See ``Results.compare``."""
    named = [(str(place(cell).get(_RECIPE, "")), cell) for cell in cells]
    known = list(dict.fromkeys(recipe for recipe, _ in named))
    wanted = known if recipes is None else list(recipes)
    for recipe in wanted:
        if recipe not in known:
            raise StudyError(unknown("recipe", recipe, known))
    groups: dict[tuple[str, ...], dict[str, CellResult]] = {}
    for recipe, cell in named:
        rest = tuple(value for key, value in place(cell).items() if key != _RECIPE)
        groups.setdefault(rest, {})[recipe] = cell
    rows = []
    for group in groups.values():
        there = [recipe for recipe in wanted if recipe in group]
        found = {recipe: _quality(group[recipe]) for recipe in there}
        first = next((quality for quality in found.values() if quality is not None), None)
        for recipe in there:
            quality = found[recipe]
            lost = None if first is None or quality is None else loss(first, quality)
            rows.append(
                {
                    **place(group[recipe]),
                    _RECIPE: recipe,
                    **interval("quality", quality),
                    **interval("loss", lost),
                }
            )
    return rows


def _quality(cell: CellResult) -> Any:
    return None if cell.quantized is None else cell.quantized.quality
