"""The charts of a whole run, one a data set: accuracy, size, targets and time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from bitladder.report.cells import STAGES, Pair, ReportedCell, Share, in_order
from bitladder.report.figures import Figure, figure_name
from bitladder.report.palette import FRONT, SHAPES

WIDTH = 420  # pixels of a saved chart; on the page it is as wide as its place
FLOAT = "float"
_HEIGHT = 260
_ROW = 26  # pixels of a row of a chart with a row a cell
_MINUTE = 60.0


def accuracy_figure(dataset: str, pairs: Sequence[Pair]) -> Figure:
    """Accuracy against precision, a line a network."""
    cells = [cell for pair in pairs for cell in pair.cells]
    precisions = [FLOAT, *in_order(cells)]
    rows = [
        {"model": pair.model, "precision": precision, **_percents(share)}
        for pair in pairs
        for precision, share in _ladder(pair)
    ]
    models = [pair.model for pair in pairs]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("precision:N", sort=precisions, title="precision", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("model:N", sort=models),
        color=by_name("model", models),
    )
    scale = alt.Scale(zero=False, nice=True)
    y = alt.Y("value:Q", title="accuracy (%)", scale=scale)
    tips = [
        alt.Tooltip("model:N", title="network"),
        alt.Tooltip("precision:N"),
        alt.Tooltip("value:Q", title="accuracy (%)", format=".2f"),
        alt.Tooltip("low:Q", title="95 % from", format=".2f"),
        alt.Tooltip("high:Q", title="95 % to", format=".2f"),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.45).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=y),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            y=y, shape=by_shape("model", models), tooltip=tips
        ),
    )
    return Figure(
        figure_name("accuracy", dataset),
        f"Accuracy against precision, {dataset}",
        _sized(chart, _HEIGHT),
        ("network", *precisions),
        [
            (pair.model, *(str(dict(_ladder(pair)).get(name, "-")) for name in precisions))
            for pair in pairs
        ],
    )


def size_figure(dataset: str, pairs: Sequence[Pair]) -> Figure:
    """Size against accuracy: packed weights filled, the file hollow, and the Pareto front."""
    rows = [row for pair in pairs for row in _sizes(pair)]
    best: float = -1
    for row in sorted(rows, key=lambda row: (row["packed"], -row["value"])):
        row["front"] = row["value"] > best
        best = max(best, row["value"])
    models = [pair.model for pair in pairs]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("value:Q", title="accuracy (%)", scale=alt.Scale(zero=False, nice=True)),
        color=by_name("model", models),
    )
    axis = alt.Axis(grid=False, format="~g", values=_ticks(rows))
    scale = alt.Scale(type="log", nice=False, padding=20)
    x = alt.X("packed:Q", title="size (MB, logarithmic)", scale=scale, axis=axis)
    shape = by_shape("model", models)
    tips = [
        alt.Tooltip("model:N", title="network"),
        alt.Tooltip("precision:N"),
        alt.Tooltip("value:Q", title="accuracy (%)", format=".2f"),
        alt.Tooltip("packed:Q", title="packed weights (MB)", format=".3f"),
        alt.Tooltip("file:Q", title="ONNX file (MB)", format=".3f"),
    ]
    front = (
        alt.Chart(alt.Data(values=[row for row in rows if row["front"]]))
        .mark_line(interpolate="step-after", strokeDash=[4, 3], style=FRONT)
        .encode(x=x, y="value:Q")
    )
    chart = alt.layer(
        front,
        base.mark_rule(strokeWidth=1, opacity=0.5).encode(x=x, x2="file:Q"),
        base.mark_point(filled=False, size=55).encode(x=alt.X("file:Q"), shape=shape),
        base.mark_point(filled=True, size=75, opacity=1).encode(x=x, shape=shape, tooltip=tips),
        base.transform_filter(alt.datum.front)
        .mark_text(align="right", dx=-8, dy=-6)
        .encode(x=x, text="precision:N"),
    )
    return Figure(
        figure_name("size", dataset),
        f"Size against accuracy, {dataset}",
        _sized(chart, _HEIGHT),
        ("network", "precision", "accuracy (%)", "packed MB", "file MB", "on the front"),
        [
            (
                row["model"],
                row["precision"],
                f"{row['value']:.2f} ({row['low']:.1f}\N{EN DASH}{row['high']:.1f})",
                f"{row['packed']:.3f}",
                f"{row['file']:.3f}",
                "yes" if row["front"] else "no",
            )
            for row in rows
        ],
    )


def target_figures(dataset: str, pairs: Sequence[Pair]) -> list[Figure]:
    """Accuracy of the simulation and of each target, and the images on which they agree."""
    shown = [
        cell
        for pair in pairs
        for cell in reversed(pair.cells)
        if cell.targets and cell.final is not None
    ]
    if not shown:
        return []
    titles = list(dict.fromkeys(t.title for cell in shown for t in cell.targets.values()))
    accuracies, agreements = [], []
    for cell in shown:
        place = {"cell": f"{cell.model} {cell.precision}"}
        assert cell.final is not None
        accuracies.append(
            {**place, "by": "simulation", "images": cell.images, **_percents(cell.final)}
        )
        for target in cell.targets.values():
            by = {**place, "by": target.title, "images": target.images}
            accuracies.append({**by, **_percents(target.accuracy)})
            agreements.append({**by, **_percents(target.agreement)})
    everyone = ["simulation", *titles]
    return [
        Figure(
            figure_name("targets", dataset),
            f"Accuracy by simulation and target, {dataset}",
            _dots(accuracies, "accuracy (%)", everyone),
            ("network", "precision", *everyone, "simulation on the same images"),
            [
                (
                    cell.model,
                    cell.precision,
                    str(cell.final),
                    *(_told(cell, title, "accuracy") for title in titles),
                    "; ".join(
                        f"{target.title}: {_percent(target.simulation)}"
                        for target in cell.targets.values()
                    ),
                )
                for cell in shown
            ],
        ),
        Figure(
            figure_name("agreement", dataset),
            f"Images that a target puts in the simulation's class, {dataset}",
            _dots(agreements, "agreement (%)", everyone),
            ("network", "precision", *titles, "worst difference", "equal to the last bit"),
            [
                (
                    cell.model,
                    cell.precision,
                    *(_told(cell, title, "agreement") for title in titles),
                    "; ".join(
                        f"{target.title}: {target.worst_lsb:.0f} LSB"
                        for target in cell.targets.values()
                    ),
                    "; ".join(
                        f"{target.title}: {_percent(target.integer_equal)} %"
                        for target in cell.targets.values()
                    ),
                )
                for cell in shown
            ],
        ),
    ]


def time_figure(dataset: str, pairs: Sequence[Pair]) -> Figure:
    """Minutes of each stage; the float network, which the precisions share, has its own row."""
    rows = [
        {
            "cell": f"{pair.model} {name}",
            "stage": stage,
            "minutes": seconds / _MINUTE,
            "order": rank,
        }
        for pair in pairs
        for name, times in _times(pair)
        for rank, stage in enumerate(STAGES)
        if (seconds := times.get(stage))
    ]
    order = list(
        dict.fromkeys(f"{pair.model} {name}" for pair in pairs for name, _ in _times(pair))
    )
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in rows)]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar()
        .encode(
            x=alt.X("minutes:Q", title="minutes of one worker"),
            y=_rows("cell", order),
            color=alt.Color(
                "stage:N", scale=alt.Scale(domain=stages), legend=alt.Legend(columns=2)
            ),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("cell:N", title="cell"),
                alt.Tooltip("stage:N"),
                alt.Tooltip("minutes:Q", format=".2f"),
            ],
        )
    )
    return Figure(
        figure_name("time", dataset),
        f"Time spent, {dataset}",
        _sized(chart, _ROW * max(1, len(order))),
        ("network", "precision", *STAGES, "minutes"),
        [
            (
                pair.model,
                name,
                *(f"{times[stage] / _MINUTE:.1f}" if stage in times else "-" for stage in STAGES),
                f"{sum(times.values()) / _MINUTE:.1f}",
            )
            for pair in pairs
            for name, times in _times(pair)
        ],
    )


def total_minutes(pairs: Sequence[Pair]) -> float:
    """Work of all stages, those that cells share counted once."""
    return sum(sum(times.values()) for pair in pairs for _, times in _times(pair)) / _MINUTE


def by_name(field: str, domain: Sequence[str], **options: Any) -> Any:
    """A colour each name, the same in every chart of one domain."""
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(domain)), **options)


def by_shape(field: str, domain: Sequence[str], **options: Any) -> Any:
    """A shape each name, so that colours need not be told apart."""
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(domain))]
    scale = alt.Scale(domain=list(domain), range=shapes)
    return alt.Shape(f"{field}:N", scale=scale, **options)


def _ladder(pair: Pair) -> list[tuple[str, Share]]:
    """The float network and then the precisions, the highest first, where there is an accuracy."""
    steps = [(FLOAT, pair.trained), *((c.precision, c.final) for c in reversed(pair.cells))]
    return [(name, share) for name, share in steps if share is not None]


def _sizes(pair: Pair) -> list[dict[str, Any]]:
    found = [
        {
            "model": pair.model,
            "precision": cell.precision,
            **_percents(cell.final),
            "packed": cell.sizes["packed"],
            "file": cell.sizes["file"],
        }
        for cell in reversed(pair.cells)
        if cell.final is not None and {"packed", "file"} <= cell.sizes.keys()
    ]
    if pair.megabytes is None or pair.trained is None:
        return found
    size = {"packed": pair.megabytes, "file": pair.megabytes}
    return [{"model": pair.model, "precision": FLOAT, **_percents(pair.trained), **size}, *found]


def _ticks(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """1, 2 and 5 in every decade of the sizes."""
    sizes = [row[name] for row in rows for name in ("packed", "file")]
    low, high = (math.floor(math.log10(size)) for size in (min(sizes), max(sizes)))
    return [step * 10.0**decade for decade in range(low, high + 1) for step in (1, 2, 5)]


def _times(pair: Pair) -> list[tuple[str, dict[str, float]]]:
    times = [(cell.precision, dict(cell.seconds)) for cell in reversed(pair.cells)]
    trained = [of.pop("train") for _, of in times if "train" in of]
    return [(FLOAT, {"train": trained[0]} if trained else {}), *times]


def _dots(rows: Sequence[dict[str, Any]], title: str, everyone: Sequence[str]) -> Any:
    """A row a cell, a point with its interval for everyone who computed it."""
    order = list(dict.fromkeys(row["cell"] for row in rows))
    there = [name for name in everyone if any(row["by"] == name for row in rows)]
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        y=_rows("cell", order),
        yOffset=alt.YOffset("by:N", sort=there),
        color=by_name("by", everyone, legend=alt.Legend(values=there)),
    )
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, nice=True))
    tips = [
        alt.Tooltip("cell:N", title="cell"),
        alt.Tooltip("by:N", title="by"),
        alt.Tooltip("value:Q", title=title, format=".2f"),
        alt.Tooltip("low:Q", title="95 % from", format=".2f"),
        alt.Tooltip("high:Q", title="95 % to", format=".2f"),
        alt.Tooltip("images:Q"),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.45).encode(x=alt.X("low:Q"), x2="high:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            x=x, shape=by_shape("by", everyone, legend=alt.Legend(values=there)), tooltip=tips
        ),
    )
    return _sized(chart, _ROW * len(order))


def _rows(field: str, order: Sequence[str]) -> Any:
    return alt.Y(f"{field}:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=190))


def _sized(chart: Any, height: int) -> Any:
    return chart.properties(width=WIDTH, height=height)


def _percents(share: Share) -> dict[str, float]:
    found = {"value": share.value, "low": share.low, "high": share.high}
    return {name: round(100 * value, 4) for name, value in found.items()}


def _told(cell: ReportedCell, title: str, what: str) -> str:
    found = [target for target in cell.targets.values() if target.title == title]
    if not found:
        return "-"
    share: Share = getattr(found[0], what)
    return f"{share} of {found[0].images:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
