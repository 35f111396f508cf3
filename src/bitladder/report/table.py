"""The results as tables for the terminal: a row a cell, or a row a rung of a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from bitladder.accuracy import Accuracy
from bitladder.pipeline.results import CellResult, Results, saturates

if TYPE_CHECKING:  # it loads torch
    from bitladder.verification import Verification

_NONE = "-"


def accuracy_table(results: Results) -> Table:
    """Lay out the results: accuracies as percentages, the final one with its 95 % interval.

    ``agrees`` is the share of images that a target puts in the simulation's class, ``exact`` the
    share whose every logit is that of the integer arithmetic to the last bit. Where a target's
    sums saturate in a cell, ``precise`` is its accuracy with exact sums.
    """
    targets = _targets(results)
    # The rung that begins simulation is the network before any repair.
    recipe = results.study.recipe
    simulation = next(step.name for step in recipe if step.phase == "simulate")
    table = Table(title=results.study.name, title_justify="left")
    for column in ("data set", "model", "bits"):
        table.add_column(column, overflow="fold")
    for column in ("trained", "simulated", "final", "95 %", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for target, saturated in targets.items():
        table.add_column(target, justify="right", no_wrap=True)
        if saturated:
            table.add_column("precise", justify="right", no_wrap=True)
        table.add_column("agrees", justify="right", no_wrap=True)
        table.add_column("exact", justify="right", no_wrap=True)
    for column in ("packed MB", "file MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        table.add_row(*_cells(cell, simulation, targets))
    return table


def _targets(results: Results) -> dict[str, bool]:
    """The targets of a study, and whether the sums of any cell saturate there."""
    found: dict[str, bool] = {}
    for cell in results.cells:
        for name, record in cell.verified.items():
            found[name] = found.get(name, False) or saturates(record["comparison"])
    return found


def rung_table(results: Results) -> Table:
    """Lay out the rungs: the accuracy after each technique and what the technique gained."""
    table = Table(title=f"{results.study.name}: rungs", title_justify="left")
    for column in ("data set", "model", "bits", "technique"):
        table.add_column(column, overflow="fold")
    for column in ("accuracy", "95 %", "gain", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        before: Accuracy | None = None
        for rung in cell.rungs:
            gain = None if before is None else rung.accuracy.value - before.value
            table.add_row(
                cell.cell.dataset_label,
                cell.cell.model_label,
                str(cell.cell.precision),
                rung.name,
                _percent(rung.accuracy),
                _interval(rung.accuracy),
                _NONE if gain is None else f"{100 * gain:+.2f}",
                f"{rung.seconds:.1f}",
            )
            before = rung.accuracy
        table.add_section()
    return table


def verification_table(name: str, found: Iterable[Verification]) -> Table:
    """Lay out what targets made of one file, a row a target.

    Where a target's sums saturate, what it makes of the file with exact sums stands beside it.
    """
    table = Table(title=name, title_justify="left")
    table.add_column("target")
    for column in ("images", "accuracy", "95 %", "agrees", "worst", "mean", "exact", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    found = list(found)
    saturated = any(one.comparison.saturates for one in found)
    for column in ("precise", "precise agrees") if saturated else ():
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("first layer that differs", overflow="fold")
    for one in found:
        compared, first = one.comparison, one.first_layer
        accuracy = compared.accuracy if one.labelled else None
        table.add_row(
            one.target,
            str(compared.agreement.total),
            _percent(accuracy),
            _interval(accuracy),
            _percent(compared.agreement),
            f"{compared.worst_lsb:.0f} LSB",
            f"{compared.mean_lsb:.2f}",
            _percent(compared.integer_equal),
            f"{compared.seconds:.1f}",
            *(_precise(one) if saturated else ()),
            _NONE if first is None else f"{first.name} (by {first.worst})",
        )
    return table


def _precise(one: Verification) -> tuple[str, str]:
    """What the target makes of the file with exact sums."""
    compared = one.comparison
    accuracy = compared.precise if one.labelled else None
    return _percent(accuracy), _percent(compared.precise_agreement)


def _cells(cell: CellResult, simulation: str, targets: Mapping[str, bool]) -> list[str]:
    accuracies = {rung.name: rung.accuracy for rung in cell.rungs}
    trained, final = accuracies.get("float"), cell.quantized
    simulated = accuracies.get(simulation)
    loss = None if trained is None or final is None else trained.value - final.value
    row = [
        cell.cell.dataset_label,
        cell.cell.model_label,
        str(cell.cell.precision),
        _percent(trained),
        _percent(simulated),
        _percent(final) if cell.status != "failed" else "failed",
        _interval(final),
        _NONE if loss is None else f"{100 * loss:+.2f}",
    ]
    for target, saturated in targets.items():
        found = cell.verified.get(target, {}).get("comparison")
        row.append(_percent(found and Accuracy(**found["accuracy"])))
        if saturated:
            precise = found and found.get("precise")
            row.append(_percent(precise and Accuracy(**precise)))
        row.append(_percent(found and Accuracy(**found["agreement"])))
        equal = found and found.get("integer_equal")
        row.append(_percent(equal and Accuracy(**equal)))
    sizes = cell.records.get("export", {}).get("sizes")
    return [*row, *(_megabytes(sizes, name) for name in ("packed_bytes", "file_bytes"))]


def _megabytes(sizes: Mapping[str, int] | None, name: str) -> str:
    return f"{sizes[name] / 1e6:.2f}" if sizes else _NONE


def _percent(accuracy: Accuracy | None) -> str:
    return _NONE if accuracy is None else f"{100 * accuracy.value:.2f}"


def _interval(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return _NONE
    low, high = accuracy.interval
    return f"{100 * low:.1f}-{100 * high:.1f}"
