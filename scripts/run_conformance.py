"""Check every operation at every precision and write results/conformance/operators.csv.

python scripts/run_conformance.py [--only TEXT] [--precisions w8a8,w4a4] [--no-htp] [--output CSV]

What is done already is kept in build/conformance and not done again while the code is the same.
"""

import argparse
import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from conformance.pool import run_jobs, serve, state_folder  # noqa: E402

OUTPUT = ROOT / "results" / "conformance" / "operators.csv"
PRECISIONS = ("w8a8", "w4a4", "w4a8", "w8a16")
RECIPES = {
    "fold": ("fold_batch_norm", "calibrate"),
    "reestimate": ("calibrate", "reestimate_batch_norm"),
}
HTP_PRECISIONS = ("w8a8", "w8a16")


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["--worker"]:
        serve(sys.argv[2:], check)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--places", default="end,inside")
    parser.add_argument("--no-htp", action="store_true", help="leave the HTP emulator out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    keys = [key for key in _keys(options) if options.only in key]
    name = "operators-no-htp" if options.no_htp else "operators"
    results = run_jobs(Path(__file__), keys, state_folder(name), options.workers)
    write(options.output, results)
    report(results)


def _keys(options: argparse.Namespace) -> list[str]:
    """Cases times places, precisions and recipes; norms stay for a while where there are any."""
    from conformance.cases import CASES

    return [
        "|".join((case.name, place, precision, recipe, "no-htp" if options.no_htp else "htp"))
        for case in CASES
        for place in case.places
        if place in options.places.split(",")
        for precision in options.precisions.split(",")
        for recipe in options.recipes.split(",")
        if recipe != "reestimate" or case.folds
    ]


def check(key: str) -> dict[str, Any]:
    """Findings of one case at one precision, as text, and what is wrong in them."""
    from conformance.cases import CASES
    from conformance.checks import CHECKS, SLOW, Subject, run_checks
    from conformance.findings import faults

    name, place, precision, recipe, htp = key.split("|")
    [case] = [case for case in CASES if case.name == name]
    names = [check for check in CHECKS if check not in SLOW]
    names += ["htp"] if htp == "htp" and precision in HTP_PRECISIONS else []
    names += ["loader"] if precision == "w8a8" and case.quick else []
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(
            case.make_network(place), case.make_images(), precision, RECIPES[recipe], Path(folder)
        )
        found = dict(run_checks(subject, tuple(names)))
    wrong = faults(found, subject.bits, refused=case.refused)
    return {"findings": {name: str(finding) for name, finding in found.items()}, "faults": wrong}


def write(path: Path, results: dict[str, Any]) -> None:
    """Write a row a case, place, precision and recipe, a column a check."""
    from conformance.cases import CASES
    from conformance.checks import CHECKS, STEPS

    operations = {case.name: " ".join(case.operations) for case in CASES}
    columns = ["operations", "case", "place", "precision", "recipe", *STEPS, *CHECKS, "faults"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for key, result in results.items():
            name, place, precision, recipe, _ = key.split("|")
            row = {"case": name, "place": place, "precision": precision, "recipe": recipe}
            row |= {"operations": operations[name], **result.get("findings", {})}
            row["faults"] = "; ".join(wrong(result))
            writer.writerow(row)


def wrong(result: dict[str, Any]) -> list[str]:
    """The faults of a result."""
    return [result["died"]] if "died" in result else list(result["faults"])


def report(results: dict[str, Any]) -> None:
    """Print each fault and how many there are."""
    faulty = {key: wrong(result) for key, result in results.items() if wrong(result)}
    for key, lines in faulty.items():
        print(f"{key.rpartition('|')[0]}: {'; '.join(lines)}")
    kinds = Counter(line.partition(":")[0] for lines in faulty.values() for line in lines)
    print(f"{len(results)} checked, {len(faulty)} with faults", dict(kinds))
    sys.exit(bool(faulty))


if __name__ == "__main__":
    main()
