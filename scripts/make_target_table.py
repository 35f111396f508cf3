"""Write the table of docs/targets.md from the committed results of studies/targets.yaml.

python scripts/make_target_table.py
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pages import ROOT, filled, header, interval, percent

PAGE = ROOT / "docs" / "targets.md"
RESULTS = ROOT / "results" / "targets" / "results.csv"
TARGETS = ("onnxruntime", "htp")
SIZES = ("float_mb", "packed_mb", "file_mb", "dlc_mb")


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the table as the results have it, or with none before there are any."""
    return filled(PAGE, "make_target_table.py", lines(RESULTS) if RESULTS.exists() else ())


def lines(results: Path) -> Iterator[str]:
    """The table, what it shows of the integer arithmetic, and where a target leaves it and why."""
    found = pd.read_csv(results)
    yield from header(
        "model", "precision", "float", "simulated", "95 %",
        "ONNX Runtime", "agrees", "worst LSB", "equal to the integers",
        "HTP", "agrees", "worst LSB", "equal to the integers",
        "float MB", "packed MB", "file MB", "DLC MB",
    )  # fmt: skip
    for _, cell in found.iterrows():
        figures = [cell["model"], f"`{cell['precision']}`", percent(cell["float"])]
        figures += [percent(cell["quantized"])]
        figures += [interval(cell["quantized_low"], cell["quantized_high"])]
        for target in TARGETS:
            figures += [_percent(cell, target), _percent(cell, f"{target}_agreement")]
            figures += [_number(cell, f"{target}_worst_lsb", 0)]
            figures += [_percent(cell, f"{target}_integer_equal")]
        figures += [_number(cell, size, 2) for size in SIZES]
        yield f"| {' | '.join(figures)} |"
    yield ""
    for target, name in zip(TARGETS, ("ONNX Runtime", "the HTP"), strict=True):
        yield from _integers(found, target, name)
    yield from _differences(found)


def _integers(found: pd.DataFrame, target: str, name: str) -> Iterator[str]:
    """How near a target comes to the integer arithmetic, over all cells that have one."""
    known = found.dropna(subset=[f"{target}_integer_equal"])
    if known.empty:
        return
    equal, worst = known[f"{target}_integer_equal"], known[f"{target}_integer_worst_lsb"]
    images = int(known[f"{target}_images"].max())
    yield (
        f"- {name}, {len(known)} cells on {images:,} images each: {percent(equal.min())} to "
        f"{percent(equal.max())} % of a cell's images equal the integer arithmetic in every logit; "
        f"the furthest logit is {worst.max():.0f} LSB away."
    )


def _differences(found: pd.DataFrame) -> Iterator[str]:
    """What a study noted of the cells whose target agrees on less than it should."""
    for _, cell in found.iterrows():
        for note in re.split(r"; (?=\w+: )", str(cell["notes"])):
            if "agrees on" in note:
                yield f"- {cell['model']} `{cell['precision']}`, {note}."
    for _, cell in found.dropna(subset=["error"]).iterrows():
        yield f"- {cell['model']} `{cell['precision']}` failed: {cell['error']}."


def _percent(cell: pd.Series, name: str) -> str:
    return percent(cell[name]) if pd.notna(cell.get(name)) else "-"


def _number(cell: pd.Series, name: str, digits: int) -> str:
    return f"{cell[name]:.{digits}f}" if pd.notna(cell.get(name)) else "-"


if __name__ == "__main__":
    main()
