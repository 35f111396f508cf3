"""The results as tables for the terminal: a row a cell, or a row a rung of a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from bitladder.answer import asked, usual_within
from bitladder.measurement import Loss, Measurement, scaled
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.results import Results
from bitladder.pipeline.rows import cell_row, place, rung_rows
from bitladder.pipeline.seeds import seed_rows
from bitladder.pipeline.stage_records import ExportRecord
from bitladder.report.quality import NONE, Estimate, Scale, estimate, signed
from bitladder.rungs import FLOAT, Rung

if TYPE_CHECKING:  # it loads torch
    from bitladder.verification import Verification

_MEGABYTE = 1e6
_SIZES = ("packed", "file")


def quality_table(results: Results) -> Table:
    """Lay out the results: qualities, the quantized one with its 95 % interval, and the loss.

    ``agrees`` is the mean share in which a target's answers are the simulation's, ``exact`` the
    share of images whose every value is that of the integer arithmetic to the last bit. Where a
    target's sums saturate in a cell, ``precise`` is its quality with exact sums.
    """
    targets = _targets(results)
    scale = _scale(rung for cell in results.cells for rung in cell.rungs)
    table = Table(title=f"{results.study.name}: {scale.axis}", title_justify="left")
    several = _axes(results)
    for column in ("data set", "model", "bits", *several):
        table.add_column(column, overflow="fold")
    for column in (FLOAT, "calibrated", "quantized", "95 %", *_loss_columns(scale)):
        table.add_column(column, justify="right", no_wrap=True)
    for target, saturated in targets.items():
        table.add_column(target, justify="right", no_wrap=True)
        if saturated:
            table.add_column("precise", justify="right", no_wrap=True)
        table.add_column("agrees", justify="right", no_wrap=True)
        table.add_column("exact", justify="right", no_wrap=True)
    for size in _SIZES:
        table.add_column(f"{size} MB", justify="right", no_wrap=True)
    for cell in results.cells:
        table.add_row(*_cells(cell, several, targets))
    return table


def seed_table(results: Results) -> Table:
    """Lay out what the seeds come to: means with their deviation and 95 % interval."""
    scale = _scale(rung for cell in results.cells for rung in cell.rungs)
    table = Table(title=f"{results.study.name}: means over seeds", title_justify="left")
    for column in ("data set", "model", "bits", "recipe", "seeds"):
        table.add_column(column, overflow="fold")
    for column in (FLOAT, "quantized", "deviation", *_loss_columns(scale)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in seed_rows(results.cells):
        spread = row.get("quantized_deviation")
        table.add_row(
            *(str(row[name]) for name in ("dataset", "model", "precision", "recipe", "seeds")),
            *(_told(estimate(row, name, scale.unit))[0] for name in (FLOAT, "quantized")),
            NONE if spread is None else f"{scaled(spread, scale.unit):.2f}",
            *_lost(estimate(row, "loss", scale.unit)),
        )
    return table


def _axes(results: Results) -> tuple[str, ...]:
    """The columns that tell cells of one precision apart."""
    study = results.study
    recipe = ("recipe",) if len(study.every_recipe) > 1 else ()
    return (*recipe, *(("seed",) if len(study.every_seed) > 1 else ()))


def _targets(results: Results) -> dict[str, bool]:
    """The targets of a study, and whether the sums of any cell saturate there."""
    found: dict[str, bool] = {}
    for cell in results.cells:
        for name, record in cell.verified.items():
            found[name] = found.get(name, False) or record.comparison.saturates
    return found


def answer_table(results: Results, within: float | None = None) -> Table:
    """Lay out what to ship on each target, as measured and surely, what it costs and why.

    Args:
        results: of a study.
        within: loss that is allowed, in points where qualities are shares; by default the usual.
    """
    rows = [cell_row(cell) for cell in results.cells]
    allowed = usual_within(rows) if within is None else within
    found = asked(rows, None)
    scale = _scale(rung for cell in results.cells for rung in cell.rungs)
    told = f"{allowed:.4g} {scale.loss_unit}".strip()
    table = Table(title=f"{results.study.name}: ship, within {told}", title_justify="left")
    for column in ("data set", "model", "target", "ship", "surely", "costs", "why"):
        table.add_column(column, overflow="fold")
    for one in found:
        answer = one.answer(allowed)
        surely = one.answer(allowed, surely=True).chosen
        table.add_row(
            one.dataset,
            one.model,
            one.title,
            answer.chosen.name if answer.chosen else "none",
            surely.name if surely else "none",
            answer.chosen.told if answer.chosen else NONE,
            "; ".join(answer.reasons) or NONE,
        )
    return table


def rung_table(results: Results) -> Table:
    """Lay out the rungs: quality, what the technique gained, what is lost against float so far."""
    scale = _scale(rung for cell in results.cells for rung in cell.rungs)
    gain = f"gain ({scale.loss_unit})" if scale.loss_unit else "gain"
    table = Table(title=f"{results.study.name}: rungs", title_justify="left")
    several = _axes(results)
    for column in ("data set", "model", "bits", *several, "technique"):
        table.add_column(column, overflow="fold")
    for column in (scale.axis, "95 %", gain, *_loss_columns(scale), "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        for row in rung_rows(cell):
            gained = row["gain"]
            table.add_row(
                row["dataset"],
                row["model"],
                row["precision"],
                *(str(row[name]) for name in several),
                row["technique"],
                *_told(estimate(row, "value", scale.unit)),
                NONE if gained is None else signed(gained, scale.unit),
                *_lost(estimate(row, "loss", scale.unit)),
                f"{row['seconds']:.1f}",
            )
        table.add_section()
    return table


def verification_table(name: str, found: Iterable[Verification]) -> Table:
    """Lay out what targets made of one file, a row a target.

    Where a target's sums saturate, what it makes of the file with exact sums stands beside it.
    """
    found = list(found)
    qualities = (one.comparison.quality for one in found)
    scale = next((Scale.of(quality) for quality in qualities if quality), Scale())
    table = Table(title=name, title_justify="left")
    table.add_column("target")
    for column in ("images", scale.axis, "95 %", "agrees", "worst", "mean", "exact", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    saturated = any(one.comparison.saturates for one in found)
    for column in ("precise", "precise agrees") if saturated else ():
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("first layer that differs", overflow="fold")
    for one in found:
        compared, first = one.comparison, one.first_layer
        precise = compared.precise
        beside = (
            _value(precise.quality if precise else None),
            _value(precise.agreement if precise else None),
        )
        table.add_row(
            one.target,
            str(compared.equal.count),
            *_told(_of(compared.quality)),
            _value(compared.agreement),
            f"{compared.worst_lsb:.0f} LSB",
            f"{compared.mean_lsb:.2f}",
            _value(compared.integer.equal if compared.integer else None),
            f"{compared.seconds:.1f}",
            *(beside if saturated else ()),
            NONE if first is None else f"{first.name} (by {first.worst})",
        )
    return table


def _cells(cell: CellResult, several: Iterable[str], targets: Mapping[str, bool]) -> list[str]:
    # The rung that begins simulation is the network before any repair.
    steps = cell.cell.recipe.steps
    simulation = next(step.name for step in steps if step.phase == "simulate")
    qualities = {rung.technique: rung.quality for rung in cell.rungs}
    quantized, interval = _told(_of(cell.quantized.quality if cell.quantized else None))
    row = [
        cell.cell.dataset_label,
        cell.cell.model_label,
        str(cell.cell.precision),
        *(str(place(cell)[name]) for name in several),
        _value(qualities.get(FLOAT)),
        _value(qualities.get(simulation)),
        cell.status if cell.status in ("failed", "not needed") else quantized,
        interval,
        *_lost(_of(cell.loss)),
    ]
    for target, saturated in targets.items():
        record = cell.verified.get(target)
        found = record.comparison if record else None
        row.append(_value(found.quality if found else None))
        if saturated:
            row.append(_value(found.precise.quality if found and found.precise else None))
        row.append(_value(found.agreement if found else None))
        row.append(_value(found.integer.equal if found and found.integer else None))
    exported = cell.record(ExportRecord)
    sizes = exported.sizes if exported else {}
    return [
        *row,
        *(f"{sizes[size] / _MEGABYTE:.2f}" if size in sizes else NONE for size in _SIZES),
    ]


def _scale(rungs: Iterable[Rung]) -> Scale:
    """The quality of a study, whose cells have one task."""
    return next((Scale.of(rung.quality) for rung in rungs if rung.quality), Scale())


def _loss_columns(scale: Scale) -> tuple[str, str]:
    return f"loss ({scale.loss_unit})" if scale.loss_unit else "loss", "95 % of it"


def _of(found: Measurement | Loss | None) -> Estimate | None:
    return None if found is None else Estimate.of(found)


def _value(found: Measurement | None) -> str:
    return NONE if found is None else Estimate.of(found).text


def _told(found: Estimate | None) -> tuple[str, str]:
    """A quality and its interval."""
    return (NONE, NONE) if found is None else (found.text, found.interval)


def _lost(found: Estimate | None) -> tuple[str, str]:
    """A loss and its interval."""
    return (NONE, NONE) if found is None else (found.text, found.ends)
