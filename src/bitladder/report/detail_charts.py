"""The charts of one network on one data set: its ladder, its curves, its most sensitive layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from bitladder.report.cells import Pair, ReportedCell, Share, number
from bitladder.report.charts import FLOAT, WIDTH, by_name, by_shape
from bitladder.report.figures import Figure, figure_name
from bitladder.report.run_folder import CELL

if TYPE_CHECKING:
    import pandas

_ROW = 34  # pixels of a technique
_HEIGHT = 220
_WORST = 12  # quantizers that are drawn
_KINDS = ("weight", "input", "output")
_NAME = 26  # letters of a layer's name that fit beside a chart


def ladder_figure(pair: Pair, rungs: pandas.DataFrame) -> Figure | None:
    """Accuracy after each technique, a line a precision; None where no rung was reached."""
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
            "accuracy": 100 * row["acc"],
            "low": 100 * row["acc_low"],
            "high": 100 * row["acc_high"],
            "gain": None if number(row["gain"]) is None else 100 * row["gain"],
        }
        for row in here.to_dict("records")
    ]
    legend = alt.Legend(values=precisions[1:])
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("technique:N", sort=techniques, title=None, axis=alt.Axis(labelLimit=170)),
        yOffset=alt.YOffset("precision:N", sort=precisions[1:]),
        color=by_name("precision", precisions, legend=legend),
    )
    x = alt.X("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, nice=True))
    tips = [
        alt.Tooltip("technique:N"),
        alt.Tooltip("precision:N"),
        alt.Tooltip("accuracy:Q", title="accuracy (%)", format=".2f"),
        alt.Tooltip("gain:Q", title="gain (points)", format="+.2f"),
        alt.Tooltip("low:Q", title="95 % from", format=".2f"),
        alt.Tooltip("high:Q", title="95 % to", format=".2f"),
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
            (name, *(_rung(cells.get((precision, name))) for precision in precisions[1:]))
            for name in techniques
        ],
    )


def curve_figures(pair: Pair, curves: pandas.DataFrame) -> list[Figure]:
    """Accuracy and loss over the steps; fine-tuning goes on where float training ends."""
    here = _of(pair, curves)
    if here.empty:
        return []
    ends = here[here["phase"] == "train"]["step"].max()
    trained = int(number(ends) or 0)
    series = [name for name in _precisions(pair) if name in set(here["precision"])]
    table = []
    for name in series:
        run = here[here["precision"] == name]
        last = {
            column: run[column].dropna().iloc[-1] if run[column].notna().any() else None
            for column in ("train_acc", "val_acc", "train_loss", "val_loss")
        }
        table.append(
            (
                "float training" if name == FLOAT else f"fine-tuning at {name}",
                str(int(run["step"].max())),
                *(_percent(last[column]) for column in ("train_acc", "val_acc")),
                *(_decimal(last[column]) for column in ("train_loss", "val_loss")),
            )
        )
    headings = ("run", "steps", "training accuracy (%)", "validation accuracy (%)")
    figures = []
    for measure, title, factor in (("acc", "accuracy (%)", 100.0), ("loss", "loss", 1.0)):
        rows = _points(here, measure, trained, factor)
        figures.append(
            Figure(
                figure_name("curves", title.partition(" ")[0], pair.dataset, pair.model),
                f"{title.partition(' ')[0].capitalize()} over training, "
                f"{pair.dataset} {pair.model}",
                _curves(rows, title, series, trained),
                (*headings, "training loss", "validation loss"),
                table,
            )
        )
    return figures


def layer_figure(cell: ReportedCell, layers: pandas.DataFrame) -> Figure | None:
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
            "accuracy": 100 * row["acc"],
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
                "sqnr:Q", title="SQNR of the logits (dB), left is worse", scale={"zero": False}
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
                alt.Tooltip("accuracy:Q", title="accuracy alone (%)", format=".2f"),
            ],
        )
        .properties(width=WIDTH, height=22 * len(order))
    )
    return Figure(
        figure_name("layers", cell.dataset, cell.model, cell.precision),
        f"Most sensitive layers, {cell.dataset} {cell.model} {cell.precision}",
        chart,
        ("layer", "quantizer", "SQNR (dB)", "accuracy alone (%)"),
        [
            (
                row["layer"],
                row["kind"],
                f"{row['sqnr_db']:.1f}",
                str(Share(row["acc"], row["acc_low"], row["acc_high"])),
            )
            for row in rows
        ],
    )


def _points(
    here: pandas.DataFrame, measure: str, trained: int, factor: float
) -> list[dict[str, Any]]:
    found = []
    for row in here.to_dict("records"):
        step = row["step"] + (trained if row["phase"] == "finetune" else 0)
        for split, column in (("training", f"train_{measure}"), ("validation", f"val_{measure}")):
            value = number(row.get(column))
            if value is not None:
                value = round(factor * value, 4)
                found.append(
                    {"step": step, "run": row["precision"], "split": split, "value": value}
                )
    return found


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


def _of(pair: Pair, table: pandas.DataFrame) -> pandas.DataFrame:
    return table[(table["dataset"] == pair.dataset) & (table["model"] == pair.model)]


def _precisions(pair: Pair) -> list[str]:
    """The float network and then the precisions, the highest first, so that each has its colour."""
    return [FLOAT, *(cell.precision for cell in reversed(pair.cells))]


def _rung(row: Any) -> str:
    if row is None:
        return "-"
    share = Share(row["acc"], row["acc_low"], row["acc_high"])
    gain = number(row["gain"])
    return str(share) if gain is None else f"{share}, {100 * gain:+.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
