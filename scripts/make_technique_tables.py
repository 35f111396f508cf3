"""Write the tables of docs/techniques.md from the committed results of studies/techniques.yaml.

python scripts/make_technique_tables.py
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "techniques.md"
RESULTS = ROOT / "results" / "techniques"
RECIPES = ("ptq", "qat", "data_free", "report")
BEGIN, END = "<!-- written by scripts/make_technique_tables.py -->\n", "<!-- end -->\n"


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the tables as the results have them."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + "\n".join(tables()) + "\n" + END + after


def tables() -> Iterator[str]:
    """A table a recipe: a row a cell, its rungs from left to right."""
    for recipe in RECIPES:
        if not (RESULTS / recipe).exists():
            continue
        rungs = pd.read_csv(RESULTS / recipe / "rungs.csv")
        yield f"### `{recipe}`\n"
        steps = list(dict.fromkeys(rungs["technique"]))
        yield f"| model | precision | {' | '.join(steps)} | 95 % | loss |"
        yield "|---" * (len(steps) + 4) + "|"
        for (model, precision), cell in rungs.groupby(["model", "precision"], sort=False):
            accuracies = [f"{100 * value:.2f}" for value in cell["acc"]]
            last = cell.iloc[-1]
            interval = f"{100 * last['acc_low']:.1f}-{100 * last['acc_high']:.1f}"
            loss = f"{100 * (cell['acc'].iloc[0] - last['acc']):+.2f}"
            yield f"| {model} | {precision} | {' | '.join(accuracies)} | {interval} | {loss} |"
        yield ""


if __name__ == "__main__":
    main()
