"""Colours of the page and of its charts, for light and dark, and the charts' look.

The categories are told apart with every common kind of colour blindness (after Okabe and Ito
2008) and have a contrast of at least 3 with their background; shapes tell them apart once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f5f6f7",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#d8dee4",
    "accent": "#0060a0",
    "tint": "#dcebf7",
    "good": "#116b3f",
    "warn": "#9a4a00",
    "bad": "#b3261e",
    "c1": "#0072b2",
    "c2": "#d55e00",
    "c3": "#00886a",
    "c4": "#aa3f8f",
    "c5": "#8a6d00",
    "c6": "#5a5f66",
    "c7": "#3f86b8",
}
DARK = {
    "paper": "#14171a",
    "panel": "#1e2328",
    "ink": "#e8eaed",
    "soft": "#a3abb4",
    "line": "#363d45",
    "accent": "#7cbcf0",
    "tint": "#1d3a54",
    "good": "#63cf97",
    "warn": "#f2ac66",
    "bad": "#ff8f85",
    "c1": "#56b4e9",
    "c2": "#f0854a",
    "c3": "#2fc79a",
    "c4": "#db8fca",
    "c5": "#dcbc4c",
    "c6": "#a9b0b8",
    "c7": "#a7d4f0",
}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
FRONT = "front"  # style of the Pareto front
VARIABLES = {name: f"var(--{name})" for name in LIGHT}  # the page's, which follow its theme
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def chart_config(colours: Mapping[str, str]) -> dict[str, Any]:
    """Vega-Lite's ``config`` in these colours."""
    text = {"labelColor": colours["soft"], "titleColor": colours["ink"]}
    return {
        "background": colours["paper"],
        "font": _FONT,
        # The page describes each chart and gives its figures as a table.
        "mark": {"aria": False},
        "view": {"stroke": None},
        "range": {
            "category": [colours[f"c{index}"] for index in range(1, 8)],
            "symbol": list(SHAPES),
        },
        "axis": {
            **text,
            "aria": False,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "gridColor": colours["line"],
            "domainColor": colours["line"],
            "tickColor": colours["line"],
        },
        "axisQuantitative": {"labelOverlap": "greedy", "labelSeparation": 8, "tickCount": 6},
        "legend": {
            **text,
            "aria": False,
            "labelFontSize": 12,
            "labelLimit": 160,
            "orient": "top",
            "columns": 3,
            "offset": 8,
            "symbolSize": 90,
            "symbolOpacity": 1,
            "title": None,
        },
        "title": {
            "aria": False,
            "color": colours["ink"],
            "anchor": "start",
            "fontSize": 14,
            "offset": 12,
        },
        "rule": {"color": colours["soft"]},
        "style": {FRONT: {"stroke": colours["soft"]}},
        "text": {"fill": colours["soft"], "fontSize": 11},
    }
