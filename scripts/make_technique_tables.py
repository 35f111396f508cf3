"""Write the tables of docs/techniques.md from the committed results of studies/techniques.yaml.

python scripts/make_technique_tables.py
"""

from collections.abc import Iterator

import pandas as pd
from pages import ROOT, header, interval, percent, points, replaced

PAGE = ROOT / "docs" / "techniques.md"
RESULTS = ROOT / "results" / "techniques"
RECIPES = ("ptq", "qat", "data_free", "report")
PRECISIONS = ("w8a8", "w6a6", "w4a8", "w4a4")
WHEN = {  # what there is, and the recipe for it
    "labelled images and time to train": "qat",
    "images without labels": "ptq",
    "batch norms, and images for ranges alone": "data_free",
}


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the tables as the results have them."""
    text = replaced(PAGE.read_text(), "make_technique_tables.py, losses", losses())
    return replaced(text, "make_technique_tables.py", tables())


def losses() -> Iterator[str]:
    """Which recipe for what there is, and its loss in points on the worst of the networks."""
    yield from header("what there is", "recipe", *PRECISIONS)
    for given, recipe in WHEN.items():
        results = pd.read_csv(RESULTS / recipe / "results.csv")
        worst = results.groupby("precision")["loss"].max()
        cells = " | ".join(percent(worst[precision]) for precision in PRECISIONS)
        yield f"| {given} | `{recipe}` | {cells} |"
    yield ""


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
            reached = cell.set_index("technique")["value"].reindex(steps)
            accuracies = " | ".join("" if pd.isna(value) else percent(value) for value in reached)
            last = cell.iloc[-1]
            within = interval(last["value_low"], last["value_high"])
            loss = points(cell["value"].iloc[0] - last["value"])
            yield f"| {model} | {precision} | {accuracies} | {within} | {loss} |"
        yield ""


if __name__ == "__main__":
    main()
