"""The page of a run: one file that needs nothing else, and the charts and the table beside it."""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from bitladder.errors import StoreError
from bitladder.files import write_whole
from bitladder.report.cells import ReportedCell, megabytes_text, shared_note
from bitladder.report.charts import total_minutes
from bitladder.report.choices import read_choices
from bitladder.report.contents import Contents, read_contents
from bitladder.report.figures import page_config, vega_lite_version
from bitladder.report.markdown import results_markdown
from bitladder.report.over_seeds import heading, over_seeds
from bitladder.report.palette import DARK, LIGHT
from bitladder.report.quality import NONE, Scale, estimate, number, text
from bitladder.report.real import read_real
from bitladder.report.run_folder import CELL, RunFolder
from bitladder.report.stamp import PAGE, stamp

TABLE, FIGURES = "results.md", "figures"
_ASSETS = files("bitladder.report") / "assets"
_SCRIPTS = ("charts.js", "answer.js", "detail.js", "table.js")


def write_report(folder: Path) -> Path:
    """Render the folder of a run: ``report.html``, ``results.md`` and ``figures``.

    Args:
        folder: of a run, of this machine or another; all that is said comes from its files.

    Returns:
        Path of the page.

    Raises:
        StoreError: it is not a run's folder, or it cannot be written.
    """
    contents = read_contents(folder)
    page = render(contents)
    write_whole(folder / TABLE, results_markdown(contents))
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder / FIGURES}: cannot write here: {error.strerror}") from None
    for figure in contents.figures:
        figure.save(folder / FIGURES)
    write_whole(folder / PAGE, page)
    return folder / PAGE


def render(contents: Contents) -> str:
    """The page's HTML; every text of the run is escaped."""
    run, cells, pairs = contents.run, contents.cells, contents.pairs
    choices = read_choices(contents.places, contents.scale, contents.slider)
    recipes, means = over_seeds(run, contents.scale)
    data = {
        "specs": {figure.name: figure.page_spec() for figure in contents.figures},
        "config": page_config(),
        "layers": {cell.index: _layers(run, cell, contents.scale) for cell in cells},
        "answers": choices.steps,
        "real": read_real(run, cells, contents.scale),
        "pictures": run.pictures,
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
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["megabytes"] = megabytes_text
    environment.filters["points"] = contents.scale.lost
    return environment.get_template("page.html").render(
        run=run,
        cells=cells,
        pairs=pairs,
        contents=contents,
        datasets=list(dict.fromkeys(pair.dataset for pair in pairs)),
        models=list(dict.fromkeys(pair.model for pair in pairs)),
        precisions=list(dict.fromkeys(cell.precision for cell in cells)),
        states=Counter(cell.status for cell in cells),
        targets=list(dict.fromkeys(name for cell in cells for name in cell.targets)),
        dataset_notes={
            name: shared_note([cell for cell in cells if cell.dataset == name])
            for name in {cell.dataset for cell in cells}
        },
        titles={name: t.title for cell in cells for name, t in cell.targets.items()},
        minutes=total_minutes(pairs),
        scale=contents.scale,
        slider=contents.slider,
        choices=choices,
        recipes=recipes,
        means=means,
        means_heading=heading(contents.scale),
        data=data,
        stamp=stamp(run.path),
        light=LIGHT,
        dark=DARK,
        style=_asset("page.css"),
        scripts=scripts,
        policy=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
    )


def _layers(run: RunFolder, cell: ReportedCell, scale: Scale) -> list[list[str]]:
    """Every quantizer of a cell, for the table of its layers."""
    if run.layers.empty:
        return []
    place = [cell.dataset, cell.model, cell.precision]
    here = run.layers[(run.layers[CELL] == place).all(axis=1)]
    return [
        [
            row["layer"],
            row["kind"],
            str(int(row["bits"])),
            _decibels(row["sqnr_db"]),
            text(estimate(row, "value", scale.unit)),
            _decibels(row.get("own_sqnr_db")),
        ]
        for row in here.to_dict("records")
    ]


def _decibels(value: Any) -> str:
    found = number(value)
    return NONE if found is None else f"{found:.1f}"


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
