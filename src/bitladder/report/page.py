"""The page of a run: one file that needs nothing else, and the charts and the table beside it."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bitladder.errors import StoreError
from bitladder.pipeline.results import replace
from bitladder.report import charts, detail_charts
from bitladder.report.cells import (
    ALLOWED,
    Pair,
    ReportedCell,
    number,
    pairs,
    read_cells,
    shared_note,
)
from bitladder.report.figures import Figure, unique, vega_lite_version
from bitladder.report.markdown import results_markdown
from bitladder.report.palette import DARK, LIGHT
from bitladder.report.run_folder import RunFolder, read_run

PAGE, TABLE, FIGURES = "report.html", "results.md", "figures"
_ASSETS = files("bitladder.report") / "assets"
_SCRIPTS = ("charts.js", "answer.js", "detail.js", "table.js")
_LAYER_COLUMNS = ("layer", "kind", "bits", "sqnr_db", "acc", "acc_low", "acc_high", "own_sqnr_db")


@dataclass
class _Contents:
    """The figures of a run, by where they stand on the page."""

    accuracy: list[Figure] = field(default_factory=list)
    size: list[Figure] = field(default_factory=list)
    targets: list[Figure] = field(default_factory=list)
    time: list[Figure] = field(default_factory=list)
    pairs: dict[int, list[Figure]] = field(default_factory=dict)
    cells: dict[int, list[Figure]] = field(default_factory=dict)

    def all(self) -> list[Figure]:
        """Every figure of the page."""
        details = [*self.pairs.values(), *self.cells.values()]
        shown = [self.accuracy, self.size, self.targets, self.time, *details]
        return [figure for figures in shown for figure in figures]


def write_report(folder: Path) -> Path:
    """Render the folder of a run: ``report.html``, ``results.md`` and ``figures``.

    Args:
        folder: of a run, of this machine or another; all that is said comes from its files.

    Returns:
        Path of the page.

    Raises:
        StoreError: it is not a run's folder, or it cannot be written.
    """
    run = read_run(folder)
    cells = read_cells(run)
    by_pair = pairs(cells)
    contents = _contents(run, by_pair)
    page = render(run, cells, by_pair, contents)
    replace(folder / TABLE, results_markdown(run, cells, by_pair))
    replace(folder / PAGE, page)
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder / FIGURES}: cannot write here: {error.strerror}") from None
    for figure in contents.all():
        figure.save(folder / FIGURES)
    return folder / PAGE


def render(
    run: RunFolder, cells: Sequence[ReportedCell], by_pair: Sequence[Pair], contents: _Contents
) -> str:
    """The page's HTML; every text of the run is escaped."""
    data = {
        "specs": {figure.name: figure.page_spec() for figure in contents.all()},
        "layers": {cell.index: _layers(run, cell) for cell in cells},
        "table": _rows(run.path / "results.csv"),
        "name": run.name,
    }
    scripts = [_bundle(), "".join(_asset(name) for name in _SCRIPTS)]
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        run=run,
        cells=cells,
        pairs=by_pair,
        contents=contents,
        datasets=list(dict.fromkeys(pair.dataset for pair in by_pair)),
        models=list(dict.fromkeys(pair.model for pair in by_pair)),
        precisions=list(dict.fromkeys(cell.precision for cell in cells)),
        states=Counter(cell.status for cell in cells),
        targets=list(dict.fromkeys(name for cell in cells for name in cell.targets)),
        dataset_notes={
            name: shared_note([cell for cell in cells if cell.dataset == name])
            for name in {cell.dataset for cell in cells}
        },
        titles={name: t.title for cell in cells for name, t in cell.targets.items()},
        minutes=charts.total_minutes(by_pair),
        allowed=ALLOWED,
        data=data,
        light=LIGHT,
        dark=DARK,
        style=Markup(_asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
    )


def _contents(run: RunFolder, by_pair: Sequence[Pair]) -> _Contents:
    contents = _Contents()
    for dataset in dict.fromkeys(pair.dataset for pair in by_pair):
        here = [pair for pair in by_pair if pair.dataset == dataset]
        if any(pair.trained for pair in here):
            contents.accuracy.append(charts.accuracy_figure(dataset, here))
            contents.time.append(charts.time_figure(dataset, here))
        if any("packed" in cell.sizes for pair in here for cell in pair.cells):
            contents.size.append(charts.size_figure(dataset, here))
        contents.targets += charts.target_figures(dataset, here)
    for index, pair in enumerate(by_pair):
        ladder = detail_charts.ladder_figure(pair, run.rungs)
        curves = detail_charts.curve_figures(pair, run.curves)
        contents.pairs[index] = [*([ladder] if ladder else []), *curves]
        for cell in pair.cells:
            layers = detail_charts.layer_figure(cell, run.layers)
            contents.cells[cell.index] = [layers] if layers else []
    return _named(contents)


def _named(contents: _Contents) -> _Contents:
    """The same figures, each with a name of its own."""
    found = iter(unique(contents.all()))

    def renamed(figures: Sequence[Figure]) -> list[Figure]:
        return [next(found) for _ in figures]

    return _Contents(
        renamed(contents.accuracy),
        renamed(contents.size),
        renamed(contents.targets),
        renamed(contents.time),
        {index: renamed(figures) for index, figures in contents.pairs.items()},
        {index: renamed(figures) for index, figures in contents.cells.items()},
    )


def _layers(run: RunFolder, cell: ReportedCell) -> list[list[Any]]:
    """Every quantizer of a cell, for the table of its layers."""
    if run.layers.empty:
        return []
    place = [cell.dataset, cell.model, cell.precision]
    here = run.layers[(run.layers[["dataset", "model", "precision"]] == place).all(axis=1)]
    return [
        [
            value if isinstance(value, str) else number(value)
            for value in (row.get(c) for c in _LAYER_COLUMNS)
        ]
        for row in here.to_dict("records")
    ]


def _rows(path: Path) -> list[list[str]]:
    """results.csv as it is, for the download."""
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that makes ``window.vegaEmbed``."""
    import vl_convert

    bundle = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version()
    )
    return f"(() => {{{bundle}}})();"


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
