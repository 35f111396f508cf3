"""Is a cell's loss real, for the page: what its tables of answers say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitladder.measurement import scaled
from bitladder.pipeline.flip_pictures import SHOWN
from bitladder.report.cells import ReportedCell
from bitladder.report.quality import NONE, Estimate, Scale, estimate, number, signed, text
from bitladder.report.run_folder import CELL, RunFolder

if TYPE_CHECKING:
    import pandas

_CLASSES, _MISTAKES = 12, 8  # that are shown, the worst first


def read_real(run: RunFolder, cells: Sequence[ReportedCell], scale: Scale) -> dict[int, Any]:
    """What the page shows of each cell, by its index.

    Each has ``loss``, a sentence; ``flips``, rows of number, caption and kind of change;
    ``count``, how many there are; ``labels``, rows of texts, one a class; and ``mistakes``, lines.
    """
    flips, classes, confusion = (
        _by_cell(table) for table in (run.flips, run.classes, run.confusion)
    )
    found = {}
    for cell in cells:
        place = (cell.dataset, cell.model, cell.precision)
        mine = flips.get(place, [])
        found[cell.index] = {
            "dataset": cell.dataset,
            "loss": verdict(cell.loss),
            "count": len(mine),
            "flips": [_flip(row, scale) for row in mine[:SHOWN]],
            "labels": _classes(classes.get(place, [])),
            "mistakes": [_mistake(row) for row in confusion.get(place, [])[:_MISTAKES]],
        }
    return found


def verdict(loss: Estimate | None) -> str:
    """Whether a loss is more than chance, in words."""
    if loss is None or loss.low is None or loss.high is None:
        return ""
    if loss.low > 0:
        return f"It loses {loss.loss}: zero is outside of the interval, so the loss is real."
    if loss.high < 0:
        return f"It loses {loss.loss}: zero is outside of the interval, so it has gained."
    return f"It loses {loss.loss}: zero is inside of the interval, so it may be chance."


def _by_cell(table: pandas.DataFrame) -> dict[tuple[str, ...], list[Mapping[Any, Any]]]:
    rows: list[dict[Any, Any]] = table.to_dict("records")
    found: dict[tuple[str, ...], list[Mapping[Any, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in CELL), []).append(row)
    return found


def _flip(row: Mapping[Any, Any], scale: Scale) -> list[Any]:
    first, last = (number(row[name]) for name in ("float", "quantized"))
    truth = number(row["truth"])
    if truth is None:
        told = [NONE if one is None else f"{scaled(one, scale.unit):.4g}" for one in (first, last)]
        return [int(row["image"]), f"{told[0]} \N{RIGHTWARDS ARROW} {told[1]}", row["change"]]
    answers = " \N{RIGHTWARDS ARROW} ".join(
        NONE if one is None else f"{one:.0f}" for one in (first, last)
    )
    return [int(row["image"]), f"{answers} (is {truth:.0f})", row["change"]]


def _classes(rows: Sequence[Mapping[Any, Any]]) -> list[list[str]]:
    """The classes that lose most."""
    worst = sorted(rows, key=lambda row: -(number(row["loss"]) or 0.0))[:_CLASSES]
    found = []
    for row in worst:
        loss = estimate(row, "loss")
        lost = NONE if loss is None else f"{signed(loss.value, loss.unit)} ({loss.ends})"
        before, after = (text(estimate(row, name)) for name in ("float", "quantized"))
        found.append([f"{row['class']:.0f}", f"{row['images']:.0f}", before, after, lost])
    return found


def _mistake(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['truth']:.0f} taken for {row['answer']:.0f}: {row['quantized']:.0f} times, "
        f"{row['float']:.0f} in float"
    )
