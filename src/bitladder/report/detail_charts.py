"""The charts of one network on one data set: its ladder, its curves, its most sensitive layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from bitladder.measurement import scaled
from bitladder.pipeline.kinds import FINETUNE, TRAIN
from bitladder.report.cells import Network, ReportedCell
from bitladder.report.charts import WIDTH, by_name, by_shape, interval_tips
from bitladder.report.figures import Figure, figure_name
from bitladder.report.quality import NONE, Estimate, Scale, estimate, number, signed, text
from bitladder.report.run_folder import CELL
from bitladder.rungs import FLOAT

if TYPE_CHECKING:
    import pandas

_ROW = 34  # pixels of a technique
_HEIGHT = 220
_WORST = 12  # quantizers that are drawn
_POINTS = 600  # of the curves of a chart
_KINDS = ("weight", "input", "output")
_NAME = 26  # letters of a layer's name that fit beside a chart


def ladder_figure(pair: Network, rungs: pandas.DataFrame, scale: Scale) -> Figure | None:
    """Quality after each technique, a line a precision; None where no rung was reached."""
    here = _of(pair, rungs)
    if here.empty:
        return None
    techniques = list(dict.fromkeys(here.sort_values("rung", kind="stable")["technique"]))
    precisions = _precisions(pair)
    rows = [
        {
            "technique": row["technique"],
            "rung": row["rung"],
            "precision": row["precision"],
            **found.drawn,
            "gain": None if number(row["gain"]) is None else scaled(row["gain"], scale.unit),
        }
        for row in here.to_dict("records")
        if (found := estimate(row, "value", scale.unit)) is not None
    ]
    legend = alt.Legend(values=precisions[1:])
    gain = f"gain ({scale.loss_unit})" if scale.loss_unit else "gain"
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("technique:N", sort=techniques, title=None, axis=alt.Axis(labelLimit=170)),
        yOffset=alt.YOffset("precision:N", sort=precisions[1:]),
        color=by_name("precision", precisions, legend=legend),
    )
    x = alt.X("value:Q", title=scale.axis, scale=alt.Scale(zero=False, nice=True))
    tips = [
        alt.Tooltip("technique:N"),
        alt.Tooltip("precision:N"),
        alt.Tooltip("gain:Q", title=gain, format=f"+{scale.number_format}"),
        *interval_tips(scale.heading, scale.number_format),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.4).encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(x=x, order="rung:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, shape=by_shape("precision", precisions, legend=legend), tooltip=tips
        ),
    )
    cells = {(row["precision"], row["technique"]): row for row in here.to_dict("records")}
    return Figure(
        figure_name("ladder", pair.dataset, pair.model),
        f"What each technique gained, {pair.dataset} {pair.model}",
        chart.properties(width=WIDTH, height=_ROW * len(techniques) + 20),
        ("technique", *precisions[1:]),
        [
            (name, *(_rung(cells.get((precision, name)), scale) for precision in precisions[1:]))
            for name in techniques
        ],
    )


def curve_figures(pair: Network, curves: pandas.DataFrame, scale: Scale) -> list[Figure]:
    """Quality and loss over the steps; fine-tuning goes on where float training ends."""
    here = _of(pair, curves)
    if here.empty:
        return []
    ends = here[here["phase"] == TRAIN.name]["step"].max()
    trained = int(number(ends) or 0)
    series = [name for name in _precisions(pair) if name in set(here["precision"])]
    table = []
    for name in series:
        run = here[here["precision"] == name]
        last = {
            column: run[column].dropna().iloc[-1] if run[column].notna().any() else None
            for column in ("train_quality", "val_quality", "train_loss", "val_loss")
        }
        table.append(
            (
                "float training" if name == FLOAT else f"fine-tuning at {name}",
                str(int(run["step"].max())),
                *(_bare(last[column], scale) for column in ("train_quality", "val_quality")),
                *(_decimal(last[column]) for column in ("train_loss", "val_loss")),
            )
        )
    headings = ("run", "steps", f"training {scale.heading}", f"validation {scale.heading}")
    figures = []
    for measure, told in (("quality", scale), ("loss", Scale("loss"))):
        rows = _points(here, measure, trained, told)
        figures.append(
            Figure(
                figure_name("curves", measure, pair.dataset, pair.model),
                f"{told.title} over training, {pair.dataset} {pair.model}",
                _curves(rows, told.axis, series, trained),
                (*headings, "training loss", "validation loss"),
                table,
            )
        )
    return figures


def layer_figure(cell: ReportedCell, layers: pandas.DataFrame, scale: Scale) -> Figure | None:
    """The quantizers that cost most alone; None where they were not measured."""
    place = [cell.dataset, cell.model, cell.precision]
    here = layers[(layers[CELL] == place).all(axis=1)]
    rows = [row for row in here.to_dict("records") if number(row["sqnr_db"]) is not None]
    rows = sorted(rows, key=lambda row: row["sqnr_db"])[:_WORST]
    if not rows:
        return None
    order = list(dict.fromkeys(row["layer"] for row in rows))
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    shown = [
        {
            "layer": row["layer"],
            "kind": row["kind"],
            "sqnr": row["sqnr_db"],
            "alone": text(estimate(row, "value", scale.unit)),
        }
        for row in rows
    ]
    short = (
        f"length(datum.value) > {_NAME} ? '\N{HORIZONTAL ELLIPSIS}' + "
        f"slice(datum.value, -{_NAME - 1}) : datum.value"
    )
    chart = (
        alt.Chart(alt.Data(values=shown))
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            x=alt.X(
                "sqnr:Q", title="SQNR of the outputs (dB), left is worse", scale={"zero": False}
            ),
            y=alt.Y(
                "layer:N",
                sort=order,
                title=None,
                axis=alt.Axis(labelExpr=short, labelLimit=220, grid=True),
            ),
            color=by_name("kind", kinds),
            shape=by_shape("kind", kinds),
            tooltip=[
                alt.Tooltip("layer:N"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("sqnr:Q", title="SQNR (dB)", format=".1f"),
                alt.Tooltip("alone:N", title=f"alone: {scale.heading}"),
            ],
        )
        .properties(width=WIDTH, height=22 * len(order))
    )
    return Figure(
        figure_name("layers", cell.dataset, cell.model, cell.precision),
        f"Most sensitive layers, {cell.dataset} {cell.model} {cell.precision}",
        chart,
        ("layer", "quantizer", "SQNR (dB)", f"alone: {scale.heading}"),
        [
            (
                row["layer"],
                row["kind"],
                f"{row['sqnr_db']:.1f}",
                text(estimate(row, "value", scale.unit)),
            )
            for row in rows
        ],
    )


def _points(
    here: pandas.DataFrame, measure: str, trained: int, scale: Scale
) -> list[dict[str, Any]]:
    found = []
    for row in here.to_dict("records"):
        step = row["step"] + (trained if row["phase"] == FINETUNE.name else 0)
        for split, column in (("training", f"train_{measure}"), ("validation", f"val_{measure}")):
            value = number(row.get(column))
            if value is not None:
                value = scaled(value, scale.unit)
                found.append(
                    {"step": step, "run": row["precision"], "split": split, "value": value}
                )
    return _fewer(found)


def _fewer(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of curves, as many as a chart can show: of each curve every n-th, and its last."""
    every = -(-len(points) // _POINTS)
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in points:
        curves.setdefault((point["run"], point["split"]), []).append(point)
    return [
        point
        for curve in curves.values()
        for place, point in enumerate(curve)
        if place % every == 0 or place == len(curve) - 1
    ]


def _curves(rows: Sequence[dict[str, Any]], title: str, series: list[str], trained: int) -> Any:
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(grid=False)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, nice=True)),
        color=by_name("run", series),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("split:N"),
            alt.Tooltip("step:Q"),
            alt.Tooltip("value:Q", title=title, format=".3f"),
        ],
    )
    layers = [
        base.transform_filter(alt.datum.split == "training").mark_line(strokeWidth=1.5),
        base.transform_filter(alt.datum.split == "validation")
        .mark_point(filled=True, size=80, opacity=1)
        .encode(shape=by_shape("run", series)),
    ]
    if trained and len(series) > 1:
        border = alt.Chart(alt.Data(values=[{"step": trained}]))
        layers.append(border.mark_rule(strokeDash=[3, 3], opacity=0.5).encode(x="step:Q"))
    return alt.layer(*layers).properties(width=WIDTH, height=_HEIGHT)


def _of(pair: Network, table: pandas.DataFrame) -> pandas.DataFrame:
    return table[(table["dataset"] == pair.dataset) & (table["model"] == pair.model)]


def _precisions(pair: Network) -> list[str]:
    """The float network and then the precisions, the highest first, so that each has its colour."""
    return [FLOAT, *(cell.precision for cell in reversed(pair.cells))]


def _rung(row: Any, scale: Scale) -> str:
    if row is None:
        return NONE
    found, gain = text(estimate(row, "value", scale.unit)), number(row["gain"])
    return found if gain is None else f"{found}, {signed(gain, scale.unit)}"


def _bare(value: float | None, scale: Scale) -> str:
    return NONE if value is None else Estimate(value, None, None, scale.unit).text


def _decimal(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
