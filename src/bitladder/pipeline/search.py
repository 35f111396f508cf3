"""Which cells a search for the narrowest precision within a loss needs: the others are not run.

Precisions are tried from the widest on, at each the recipes in their order. The first recipe that
stays within is that precision's answer, and the dearer ones are not needed there. Where all fail,
precisions that are narrower in weights and activations are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from bitladder.measurement import scaled
from bitladder.options import Precision
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.planning import Cell

_EXACT = 1e-9  # of a comparison of losses


@dataclass(frozen=True)
class Decision:
    """What is known so far.

    Attributes:
        wanted: cells to run, or that have run.
        dropped: cells that nobody needs any more; the others wait for those that run.
    """

    wanted: tuple[Cell, ...]
    dropped: tuple[Cell, ...]


def decide(cells: Sequence[Cell], within: float, result: Callable[[Cell], CellResult]) -> Decision:
    """What to run next, and what not at all, from what has ended.

    Args:
        cells: of a study.
        within: loss that is allowed, in points where qualities are shares. With several seeds it
            is the mean that counts.
        result: what is known of a cell.
    """
    wanted: list[Cell] = []
    dropped: list[Cell] = []
    for network in _groups(cells, lambda cell: (cell.dataset_label, cell.model_label)):
        _decide(network, within, result, wanted, dropped)
    return Decision(tuple(wanted), tuple(dropped))


def _decide(
    cells: Sequence[Cell],
    within: float,
    result: Callable[[Cell], CellResult],
    wanted: list[Cell],
    dropped: list[Cell],
) -> None:
    held: dict[Precision, bool | None] = {}  # whether a precision stays within, None if not known
    rungs = {group[0].precision: group for group in _groups(cells, lambda cell: cell.precision)}
    for precision in sorted(rungs, key=lambda one: (-sum(_bits(one)), _bits(one))):
        wider = [held[other] for other in held if is_wider(other, precision)]
        if False in wider:
            dropped += rungs[precision]
            held[precision] = False
        elif None in wider:
            held[precision] = None
        else:
            held[precision] = _try(rungs[precision], within, result, wanted, dropped)


def _try(
    cells: Sequence[Cell],
    within: float,
    result: Callable[[Cell], CellResult],
    wanted: list[Cell],
    dropped: list[Cell],
) -> bool | None:
    """Whether one of a precision's recipes stays within, or None while that is not known."""
    recipes = _groups(cells, lambda cell: cell.recipe.name)
    for place, seeds in enumerate(recipes):
        wanted += seeds
        found = [result(cell) for cell in seeds]
        if any(one.status == "pending" for one in found):
            return None
        if _stays(found, within):
            dropped += [cell for later in recipes[place + 1 :] for cell in later]
            return True
    return False


def _stays(found: Iterable[CellResult], within: float) -> bool:
    """Whether the mean loss over the seeds is allowed; a cell that failed has none."""
    losses = []
    for one in found:
        quality = one.rungs[0].quality if one.rungs else None
        if one.status != "complete" or one.loss is None or quality is None:
            return False
        losses.append(scaled(one.loss.value, quality.unit))
    return bool(losses) and mean(losses) <= within + _EXACT


def is_wider(one: Precision, other: Precision) -> bool:
    """Whether a precision has at least the other's bits everywhere, and more somewhere."""
    return one != other and all(a >= b for a, b in zip(_bits(one), _bits(other), strict=True))


def _bits(precision: Precision) -> tuple[int, int, int]:
    """Bits of weights, activations and the edges."""
    edges = precision.edges or min(precision.weights, precision.activations)
    return precision.weights, precision.activations, edges


def _groups(cells: Iterable[Cell], key: Callable[[Cell], object]) -> list[list[Cell]]:
    """Cells that have the same key, in the order in which the keys come first."""
    found: dict[object, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.values())


def saved(dropped: Iterable[Cell], ran: Mapping[str, object], seconds: Mapping[str, float]) -> str:
    """What a search did without, in words.

    Args:
        dropped: the cells that were not needed.
        ran: keys of the stages that ran or were there.
        seconds: by key, how long each stage takes by the times of earlier ones.
    """
    cells = list(dropped)
    stages = {key for cell in cells for key in cell.keys if key not in ran}
    minutes = sum(seconds[key] for key in stages) / 60
    return (
        f"{len(cells)} cells are not needed: {len(stages)} stages are not run, "
        f"about {minutes:.1f} minutes of one worker"
    )
