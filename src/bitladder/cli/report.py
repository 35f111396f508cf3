"""``bitladder report``: the page, the table and the figures of a run, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that a run wrote.")],
) -> None:
    """Write the report of a run from the files in its folder: a page, a table, the figures."""
    from bitladder.runs import write_report

    page = write_report(run)
    print(f"report: {page}")
    print(f"table: {page.with_name('results.md')}")
    print(f"figures: {page.with_name('figures')}")
