"""Rows as a table: as CSV text, for which a run loads no pandas, or as a data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitladder.csv_text import csv_text

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns.

    Attributes:
        rows: one mapping a row; what a row lacks is empty.
        empty: the columns of a table without rows.
    """

    rows: Sequence[Mapping[str, Any]]
    empty: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """The columns of all rows; the fullest row gives the order, as a failed cell has fewer."""
        order = max((list(row) for row in self.rows), key=len, default=list(self.empty))
        return list(dict.fromkeys([*order, *(name for row in self.rows for name in row)]))

    def csv(self) -> str:
        """The table as CSV; what is missing or not a number is empty."""
        return csv_text(self.columns, self.rows)

    def frame(self) -> pandas.DataFrame:
        """The table in pandas."""
        import pandas

        return pandas.DataFrame([dict(row) for row in self.rows], columns=self.columns)
