"""The charts of a whole run, one a data set: quality, size, targets and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from bitladder.pipeline.kinds import KINDS, TRAIN
from bitladder.report.cells import SIMULATION, Network, ReportedCell, TargetResult, in_order
from bitladder.report.figures import Figure, figure_name
from bitladder.report.palette import FRONT, SHAPES
from bitladder.report.quality import NONE, Estimate, Scale, text
from bitladder.rungs import FLOAT

WIDTH = 420  # pixels of a saved chart; on the page it is as wide as its place
_HEIGHT = 260
_ROW = 26  # pixels of a row of a chart with a row a cell
_MINUTE = 60.0


def quality_figure(dataset: str, pairs: Sequence[Network], scale: Scale) -> Figure:
    """Quality against precision, a line a network."""
    cells = [cell for pair in pairs for cell in pair.cells]
    precisions = [FLOAT, *in_order(cells)]
    rows = [
        {"model": pair.model, "precision": precision, **found.drawn}
        for pair in pairs
        for precision, found in _ladder(pair)
    ]
    models = [pair.model for pair in pairs]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("precision:N", sort=precisions, title="precision", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("model:N", sort=models),
        color=by_name("model", models),
    )
    y = alt.Y("value:Q", title=scale.axis, scale=alt.Scale(zero=False, nice=True))
    tips = [
        alt.Tooltip("model:N", title="network"),
        alt.Tooltip("precision:N"),
        *interval_tips(scale.heading, scale.number_format),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.45).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=y),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            y=y, shape=by_shape("model", models), tooltip=tips
        ),
    )
    return Figure(
        figure_name("quality", dataset),
        f"{scale.title} against precision, {dataset}",
        _sized(chart, _HEIGHT),
        ("network", *precisions),
        [
            (pair.model, *(str(dict(_ladder(pair)).get(name, NONE)) for name in precisions))
            for pair in pairs
        ],
    )


def size_figure(dataset: str, pairs: Sequence[Network], scale: Scale) -> Figure:
    """Size against quality: packed weights filled, the file hollow, and the Pareto front."""
    rows = [row for pair in pairs for row in _sizes(pair)]
    sign = -1 if scale.higher_is_better else 1
    best: float | None = None
    for row in sorted(rows, key=lambda row: (row["packed"], sign * row["value"])):
        row["front"] = best is None or scale.better(row["value"], best)
        best = row["value"] if row["front"] else best
    models = [pair.model for pair in pairs]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("value:Q", title=scale.axis, scale=alt.Scale(zero=False, nice=True)),
        color=by_name("model", models),
    )
    axis = alt.Axis(grid=False, format="~g", values=_ticks(rows))
    logarithmic = alt.Scale(type="log", nice=False, padding=20)
    x = alt.X("packed:Q", title="size (MB, logarithmic)", scale=logarithmic, axis=axis)
    shape = by_shape("model", models)
    tips = [
        alt.Tooltip("model:N", title="network"),
        alt.Tooltip("precision:N"),
        alt.Tooltip("value:Q", title=scale.heading, format=scale.number_format),
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
        f"Size against {scale.name}, {dataset}",
        _sized(chart, _HEIGHT),
        ("network", "precision", scale.heading, "packed MB", "file MB", "on the front"),
        [
            (
                row["model"],
                row["precision"],
                row["told"],
                f"{row['packed']:.3f}",
                f"{row['file']:.3f}",
                "yes" if row["front"] else "no",
            )
            for row in rows
        ],
    )


def target_figures(dataset: str, pairs: Sequence[Network], scale: Scale) -> list[Figure]:
    """Quality of the simulation and of each target, and how far they agree."""
    cells = [cell for pair in pairs for cell in reversed(pair.cells)]
    shown = [cell for cell in cells if cell.targets and cell.quantized is not None]
    if not shown:
        return []
    everyone = [SIMULATION, *dict.fromkeys(t.title for c in shown for t in c.targets.values())]
    found = [_qualities(dataset, shown, everyone, scale), _agreements(dataset, shown, everyone)]
    return [figure for figure in found if figure is not None]


def _qualities(
    dataset: str, shown: Sequence[ReportedCell], everyone: Sequence[str], scale: Scale
) -> Figure | None:
    rows = []
    for cell in shown:
        assert cell.quantized is not None
        computed = [(SIMULATION, cell.images, cell.quantized)]
        computed += [
            (t.title, t.images, t.quality) for t in cell.targets.values() if t.quality is not None
        ]
        rows += [_dot(cell, *one) for one in computed]
    if all(row["by"] == SIMULATION for row in rows):
        return None
    return Figure(
        figure_name("targets", dataset),
        f"{scale.title} by simulation and target, {dataset}",
        _dots(rows, scale.axis, scale.number_format, everyone),
        ("network", "precision", *everyone, "simulation on the same images"),
        [
            (
                cell.model,
                cell.precision,
                str(cell.quantized),
                *(_told(cell, title, "quality") for title in everyone[1:]),
                _each(cell, lambda target: text(target.simulation)),
            )
            for cell in shown
        ],
    )


def _agreements(
    dataset: str, shown: Sequence[ReportedCell], everyone: Sequence[str]
) -> Figure | None:
    rows = [
        _dot(cell, target.title, target.images, target.agreement)
        for cell in shown
        for target in cell.targets.values()
        if target.agreement is not None
    ]
    if not rows:
        return None
    return Figure(
        figure_name("agreement", dataset),
        f"Agreement of the targets with the simulation, {dataset}",
        _dots(rows, "agreement (%)", ".2f", everyone),
        (
            *("network", "precision", *everyone[1:]),
            *("worst difference", "equal to the integers to the last bit"),
        ),
        [
            (
                cell.model,
                cell.precision,
                *(_told(cell, title, "agreement") for title in everyone[1:]),
                _each(cell, lambda target: f"{target.worst_lsb:.0f} LSB"),
                _each(cell, lambda t: NONE if t.integer_equal is None else t.integer_equal.told),
            )
            for cell in shown
        ],
    )


def time_figure(dataset: str, pairs: Sequence[Network]) -> Figure:
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
        for rank, stage in enumerate(KINDS)
        if (seconds := times.get(stage))
    ]
    order = list(
        dict.fromkeys(f"{pair.model} {name}" for pair in pairs for name, _ in _times(pair))
    )
    stages = [stage for stage in KINDS if any(row["stage"] == stage for row in rows)]
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
        ("network", "precision", *KINDS, "minutes"),
        [
            (
                pair.model,
                name,
                *(f"{times[stage] / _MINUTE:.1f}" if stage in times else NONE for stage in KINDS),
                f"{sum(times.values()) / _MINUTE:.1f}",
            )
            for pair in pairs
            for name, times in _times(pair)
        ],
    )


def total_minutes(pairs: Sequence[Network]) -> float:
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


def interval_tips(heading: str, number_format: str) -> list[Any]:
    """A value and its interval, as a tooltip."""
    return [
        alt.Tooltip("value:Q", title=heading, format=number_format),
        alt.Tooltip("low:Q", title="95 % from", format=number_format),
        alt.Tooltip("high:Q", title="95 % to", format=number_format),
    ]


def _ladder(pair: Network) -> list[tuple[str, Estimate]]:
    """The float network and then the precisions, the highest first, where there is a quality."""
    steps = [(FLOAT, pair.trained), *((c.precision, c.quantized) for c in reversed(pair.cells))]
    return [(name, found) for name, found in steps if found is not None]


def _sizes(pair: Network) -> list[dict[str, Any]]:
    sizes = {cell.precision: cell.sizes for cell in pair.cells}
    if pair.megabytes is not None:
        sizes[FLOAT] = {"packed": pair.megabytes, "file": pair.megabytes}
    return [
        {
            "model": pair.model,
            "precision": name,
            **found.drawn,
            "told": str(found),
            "packed": sizes[name]["packed"],
            "file": sizes[name]["file"],
        }
        for name, found in _ladder(pair)
        if {"packed", "file"} <= sizes.get(name, {}).keys()
    ]


def _ticks(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """1, 2 and 5 in every decade of the sizes."""
    sizes = [row[name] for row in rows for name in ("packed", "file")]
    low, high = (math.floor(math.log10(size)) for size in (min(sizes), max(sizes)))
    return [step * 10.0**decade for decade in range(low, high + 1) for step in (1, 2, 5)]


def _times(pair: Network) -> list[tuple[str, dict[str, float]]]:
    times = [(cell.precision, dict(cell.seconds)) for cell in reversed(pair.cells)]
    trained = [of.pop(TRAIN.name) for _, of in times if TRAIN.name in of]
    return [(FLOAT, {TRAIN.name: trained[0]} if trained else {}), *times]


def _dot(cell: ReportedCell, by: str, images: int, found: Estimate) -> dict[str, Any]:
    return {"cell": f"{cell.model} {cell.precision}", "by": by, "images": images, **found.drawn}


def _dots(
    rows: Sequence[dict[str, Any]], title: str, number_format: str, everyone: Sequence[str]
) -> Any:
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
        *interval_tips(title, number_format),
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


def _told(cell: ReportedCell, title: str, what: str) -> str:
    found = [target for target in cell.targets.values() if target.title == title]
    told: Estimate | None = getattr(found[0], what) if found else None
    return NONE if told is None else f"{told} of {found[0].images:,}"


def _each(cell: ReportedCell, told: Callable[[TargetResult], str]) -> str:
    return "; ".join(f"{target.title}: {told(target)}" for target in cell.targets.values())
