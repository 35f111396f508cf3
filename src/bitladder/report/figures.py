"""A chart with its words: drawn once, put into the page and saved as SVG and PNG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitladder.files import write_whole
from bitladder.report.palette import LIGHT, VARIABLES, chart_config

_DIGITS = 6
_PIXELS = 2.0  # of a PNG, for one of the SVG


@dataclass
class Figure:
    """A chart, its title, and its figures as a table for those who do not see it.

    Attributes:
        name: unique in a report and safe as the name of a file.
        title: one line.
        chart: the Altair chart.
        headings: of the table.
        rows: of the table, texts.
    """

    name: str
    title: str
    chart: Any
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def page_spec(self) -> dict[str, Any]:
        """The chart for the page: as wide as its place, untitled.

        Its script adds the configuration, which is the same for all.
        """
        spec: dict[str, Any] = _short(self.chart.to_dict())
        spec.pop("title", None)
        spec |= {
            "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"},
            "background": "transparent",
        }
        return spec

    def save(self, folder: Path) -> None:
        """Write NAME.svg and NAME.png.

        Raises:
            StoreError: the folder cannot be written.
        """
        import vl_convert

        spec = {**self.chart.to_dict(), "title": self.title, "config": chart_config(LIGHT)}
        svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
        write_whole(folder / f"{self.name}.svg", svg)
        png = vl_convert.svg_to_png(svg, scale=_PIXELS)
        write_whole(folder / f"{self.name}.png", png)


def page_config() -> dict[str, Any]:
    """The configuration of the page's charts: in the page's colours."""
    return chart_config(VARIABLES)


def _short(value: Any) -> Any:
    """A specification whose numbers have as many digits as a drawing shows."""
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_short(part) for part in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def vega_lite_version() -> str:
    """The version of Vega-Lite that Altair writes, such as ``6.1``."""
    import altair

    return ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def figure_name(*parts: str) -> str:
    """A file's name of a figure's kind and what it shows."""
    safe = (re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-.") or "x" for part in parts)
    return "-".join(safe)[:120]


def tell_apart(figures: Iterable[Figure]) -> None:
    """Add a number to the names that are taken."""
    taken: set[str] = set()
    for figure in figures:
        name, number = figure.name, 2
        while name.lower() in taken:  # some file systems do not tell case apart
            name, number = f"{figure.name}-{number}", number + 1
        taken.add(name.lower())
        figure.name = name
