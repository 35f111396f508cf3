"""Write the tables of docs/operators.md from the committed results of `make conformance`.

python scripts/make_operator_table.py
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pages import ROOT, filled, header

PAGE = ROOT / "docs" / "operators.md"
RESULTS = ROOT / "results" / "conformance" / "operators.csv"
RANDOM = ROOT / "results" / "conformance" / "random.csv"
NARROW, WIDE = ("w8a8", "w4a4", "w4a8"), ("w8a16",)
COLUMNS = (
    ("file", "unfused", NARROW),
    ("ONNX Runtime", "integers", NARROW),
    ("from the simulation", "optimised", NARROW),
    ("16-bit activations", "optimised", WIDE),
    ("HTP", "htp", ("w8a8",)),
    ("HTP, 16-bit activations", "htp", WIDE),
)
_WORST = ("fault", "refused", "float", "steps", "exact")
_REASON = 90  # characters of a reason
_Row = dict[str, str]


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page())


def page() -> str:
    """The page's text with the tables as the results have them."""
    return filled(PAGE, "make_operator_table.py", lines())


def lines() -> Iterator[str]:
    """A row an operation, and what the random networks gave."""
    rows = _read(RESULTS)
    if rows:
        yield from header("operation", "cases", *(title for title, _, _ in COLUMNS))
        for operation, own in _by_operation(rows):
            cells = [_cell(own, check, precisions) for _, check, precisions in COLUMNS]
            cases = len({row["case"] for row in own})
            yield f"| {operation} | {cases} | {' | '.join(cells)} |"
        yield ""
        faulty = sum(bool(row["faults"]) for row in rows)
        yield f"{len(rows):,} networks of one operation each, {faulty} with a fault."
    networks = _read(RANDOM)
    if networks:
        seeds = [int(row["seed"]) for row in networks]
        faulty = sum(bool(row["faults"]) for row in networks)
        yield (
            f"{len(networks):,} random networks, seeds {min(seeds)} to {max(seeds)}, "
            f"{faulty} with a fault."
        )


def _by_operation(rows: list[_Row]) -> Iterator[tuple[str, list[_Row]]]:
    """Each operation with the cases that are first of all its own, or else with all it is in."""
    first: dict[str, list[_Row]] = {}
    named: dict[str, list[_Row]] = {}
    for row in rows:
        for place, operation in enumerate(row["operations"].split()):
            named.setdefault(operation, []).append(row)
            if place == 0:
                first.setdefault(operation, []).append(row)
    for operation in sorted(named, key=str.lower):
        yield operation, first.get(operation, named[operation])


def _cell(rows: list[_Row], check: str, precisions: Iterable[str]) -> str:
    """The worst of an operation's cases, and in how many it is not the best."""
    found = [
        verdict
        for row in rows
        if row["precision"] in precisions
        if (verdict := _verdict(row, check))
    ]
    if not found:
        return "-"
    kinds = [kind for kind, _ in found]
    worst = min(kinds, key=_WORST.index)
    count = kinds.count(worst)
    text = _text(worst, [reason for kind, reason in found if kind == worst])
    others = {kind for kind in kinds if kind != worst}
    return text if not others else f"{text} ({count} of {len(found)})"


def _verdict(row: _Row, check: str) -> tuple[str, str] | None:
    """The kind of a finding and its number or reason; what ended a case earlier stands for it."""
    text = row[check] or row["quantize"] or row["export"]
    if not text or text == "-":
        return None
    if " steps in " in text:
        return "steps", text.split()[0]
    kind, _, reason = text.partition(": ")
    return kind, reason


def _text(kind: str, reasons: list[str]) -> str:
    if kind == "exact":
        return "exact"
    if kind == "steps":
        steps = max(float(reason) for reason in reasons)
        return f"within {max(round(steps), 1)} step{'s' if round(steps) > 1 else ''}"
    reason = re.sub(r"[|\n]", "/", max(sorted(set(reasons)), key=reasons.count))[:_REASON]
    return f"{'float there' if kind == 'float' else kind}: {reason}"


def _read(path: Path) -> list[_Row]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
