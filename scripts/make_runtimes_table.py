"""Write the table of runtimes in docs/targets.md from the results of studies/runtimes.yaml.

python scripts/make_runtimes_table.py
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pages import ROOT, filled, header, interval, percent

PAGE = ROOT / "docs" / "targets.md"
RESULTS = ROOT / "results" / "runtimes" / "results.csv"
TITLES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "htp": "HTP emulator",
}


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the table as the results have it, or with none before there are any."""
    return filled(PAGE, "make_runtimes_table.py", lines(RESULTS) if RESULTS.exists() else ())


def lines(results: Path) -> Iterator[str]:
    """A row a cell and runtime, then what each runtime comes to over all cells."""
    found = pd.read_csv(results)
    yield from header(
        "model", "precision", "runtime", "accuracy", "95 %", "agrees", "equal", "LSB",
        "MB", "ms", "first layer that differs from the simulation, and why",
    )  # fmt: skip
    for _, cell in found.iterrows():
        for target, title in TITLES.items():
            yield _row(cell, target, title)
    yield ""
    for target, title in TITLES.items():
        yield _summary(found, target, title)


def _row(cell: pd.Series, target: str, title: str) -> str:
    def of(name: str) -> object:
        return cell.get(f"{target}_{name}")

    exact, latency = of("integer_equal"), of("latency_ms")
    where = ": ".join(str(part) for part in (of("first_difference"), of("cause")) if pd.notna(part))
    figures = [
        cell["model"],
        f"`{cell['precision']}`",
        title,
        percent(cell[target]),
        interval(of("low"), of("high")),
        percent(of("agreement")),
        percent(exact) if pd.notna(exact) else "-",
        f"{of('worst_lsb'):.0f}",
        f"{of('file_mb'):.2f}",
        f"{latency:.2f}" if pd.notna(latency) else "-",
        where or "-",
    ]
    return f"| {' | '.join(figures)} |"


def _summary(found: pd.DataFrame, target: str, title: str) -> str:
    """In how many cells every output of every image is the integer arithmetic's."""
    known = found.dropna(subset=[f"{target}_integer_equal"])
    equal, worst = known[f"{target}_integer_equal"], known[f"{target}_integer_worst_lsb"]
    images = int(found[f"{target}_images"].max())
    told = (
        f"- {title}, {images:,} images a cell: every output of every image is the integer "
        f"arithmetic's in {int((equal == 1).sum())} of {len(known)} cells"
    )
    others = known[equal < 1]
    if others.empty:
        return f"{told}."
    names = ", ".join(f"{one['model']} `{one['precision']}`" for _, one in others.iterrows())
    return f"{told}; elsewhere by up to {worst.max():.0f} LSB: {names}."


if __name__ == "__main__":
    main()
