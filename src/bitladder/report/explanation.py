"""Why cells lose quality, for people: a table for the terminal and a page of charts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bitladder.files import write_whole
from bitladder.pipeline.explain import Explanation
from bitladder.report.quality import NONE, Scale, estimate, number

if TYPE_CHECKING:
    import pandas

_WORST = 8  # rows of a cell in the table
_WORST_WEIGHTS = 4  # layers whose channels are drawn
_CELL = ["dataset", "model", "precision"]


def explanation_table(explanation: Explanation) -> Table:
    """The costliest quantizers of each cell."""
    layers, scale = explanation.layers(), _scale(explanation)
    table = Table(title="costliest alone, weights and activations", title_justify="left")
    for column in ("data set", "model", "bits", "layer", "kind"):
        table.add_column(column, overflow="fold")
    for column in (
        "width",
        f"alone: {scale.heading}",
        "95 %",
        "outputs' SQNR",
        "own SQNR",
        "range",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    if layers.empty:
        return table
    for place, cell in layers.groupby(_CELL, sort=False):
        for row in cell.head(_WORST).to_dict("records"):
            alone = estimate(row, "value", scale.unit)
            table.add_row(
                *map(str, place),
                row["layer"],
                row["kind"],
                str(row["bits"]),
                alone.text if alone else NONE,
                alone.interval if alone else NONE,
                f"{row['sqnr_db']:.1f} dB",
                _decibels(row["own_sqnr_db"]),
                f"{row['lowest']:.3g} to {row['highest']:.3g}",
            )
        table.add_section()
    return table


def write_charts(explanation: Explanation) -> Path:
    """Write explain.html, one self-contained page with every cell's charts.

    Raises:
        StoreError: the folder cannot be written.
    """
    import altair

    layers, ranges = explanation.layers(), explanation.ranges()
    altair.data_transformers.disable_max_rows()
    charts = []
    for place, cell in layers.groupby(_CELL, sort=False) if len(layers) else ():
        title = " ".join(map(str, place))
        charts.append(_sensitivity(altair, cell, f"{title}: each quantizer alone"))
        worst = cell[cell["kind"] == "weight"].head(_WORST_WEIGHTS)["layer"]
        at = ranges[(ranges[_CELL] == list(place)).all(axis=1)]
        for layer in worst:
            name = f"{title}: weights of {layer} by channel"
            charts.append(_channels(altair, at[at["layer"] == layer], name))
    path = explanation.output / "explain.html"
    page = altair.vconcat(*charts).resolve_scale(x="independent", color="independent")
    text = io.StringIO()
    page.save(text, format="html", inline=True)
    write_whole(path, text.getvalue())
    return path


def _scale(explanation: Explanation) -> Scale:
    """The quality of the study, whose cells have one task."""
    rungs = (rung for cell in explanation.results.cells for rung in cell.rungs)
    return next((Scale.of(rung.quality) for rung in rungs if rung.quality), Scale())


def _decibels(value: float | None) -> str:
    found = number(value)
    return NONE if found is None else f"{found:.1f} dB"


def _sensitivity(altair: Any, cell: pandas.DataFrame, title: str) -> Any:
    rows = cell[["layer", "kind", "bits", "sqnr_db", "value", "agreement"]]
    rows = rows[rows["sqnr_db"].abs() < float("inf")]
    return (
        altair.Chart(rows, title=title)
        .mark_bar()
        .encode(
            x=altair.X("sqnr_db", title="SQNR of the outputs (dB), less is worse"),
            y=altair.Y("layer", sort=altair.EncodingSortField("sqnr_db", op="min"), title=None),
            yOffset="kind",
            color=altair.Color("kind", title=None),
            tooltip=list(rows.columns),
        )
        .properties(width=600)
    )


def _channels(altair: Any, channels: pandas.DataFrame, title: str) -> Any:
    return (
        altair.Chart(channels[["channel", "lowest", "highest"]], title=title)
        .mark_rule(strokeWidth=2)
        .encode(
            x=altair.X("channel:Q", title="output channel"),
            y=altair.Y("lowest", title="smallest to largest weight"),
            y2="highest",
            tooltip=["channel", "lowest", "highest"],
        )
        .properties(width=600, height=160)
    )
