"""Rows as CSV text, for every table that is written; no cell of it is a formula.

Spreadsheets compute a text that begins with ``=``, ``+``, ``-`` or ``@``, also one that a data set
or a network brought as its name. Such a text gets an apostrophe in front, which ``plain`` removes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows by the names of their columns as CSV, with a line of these names.

    Args:
        columns: their names, in order; what a row has beyond them is left out.
        rows: one mapping a row; what a row lacks, None, and what is not a number are empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def plain(cell: str) -> str:
    """The text that ``csv_text`` wrote as this cell."""
    return cell[1:] if cell.startswith("'") and _looks_computed(cell) else cell


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if _looks_computed(value) and not _is_number(value) else value
    return "" if value != value else value


def _looks_computed(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
