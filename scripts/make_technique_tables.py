"""Write the tables of docs/techniques.md from the committed results of studies/techniques.yaml.

python scripts/make_technique_tables.py
"""

from collections.abc import Iterator

import pandas as pd
from pages import ROOT, filled, header, interval, percent, points

PAGE = ROOT / "docs" / "techniques.md"
RESULTS = ROOT / "results" / "techniques"
RECIPES = ("ptq", "qat", "data_free", "report")


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the tables as the results have them."""
    return filled(PAGE, "make_technique_tables.py", tables())


def tables() -> Iterator[str]:
    """A table a recipe: a row a cell, its rungs from left to right."""
    for recipe in RECIPES:
        if not (RESULTS / recipe).exists():
            continue
        rungs = pd.read_csv(RESULTS / recipe / "rungs.csv")
        yield f"### `{recipe}`\n"
        steps = list(dict.fromkeys(rungs["technique"]))
        yield from header("model", "precision", *steps, "95 %", "loss")
        for (model, precision), cell in rungs.groupby(["model", "precision"], sort=False):
            accuracies = " | ".join(percent(value) for value in cell["acc"])
            last = cell.iloc[-1]
            within = interval(last["acc_low"], last["acc_high"])
            loss = points(cell["acc"].iloc[0] - last["acc"])
            yield f"| {model} | {precision} | {accuracies} | {within} | {loss} |"
        yield ""


if __name__ == "__main__":
    main()
