"""Check random networks and write results/conformance/random.csv.

python scripts/run_random_networks.py [--count 2000] [--seed 0] [--show SEED]

What is done already is kept in build/conformance and not done again while the code is the same.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from conformance.pool import run_jobs, serve, state_folder  # noqa: E402

OUTPUT = ROOT / "results" / "conformance" / "random.csv"


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["--worker"]:
        serve(sys.argv[2:], check)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="how many networks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--show", type=int, help="check one seed and print its network")
    options = parser.parse_args()
    if options.show is not None:
        show(options.show)
        return
    keys = [str(seed) for seed in range(options.seed, options.seed + options.count)]
    results = run_jobs(Path(__file__), keys, state_folder("random"), options.workers)
    write(options.output, results)
    faulty = {seed: result for seed, result in results.items() if _wrong(result)}
    for seed, result in faulty.items():
        print(f"{seed}: {'; '.join(_wrong(result))}\n    {result.get('smaller', '')}")
    print(f"{len(results)} networks, {len(faulty)} with faults")
    sys.exit(bool(faulty))


def check(key: str) -> dict[str, Any]:
    """What is found in the network of a seed; one with faults is made smaller."""
    from conformance.random_checks import check_plan
    from conformance.random_networks import describe, plan, smaller

    made = plan(int(key))
    found, wrong = check_plan(made)
    result: dict[str, Any] = {
        "precision": made.precision,
        "recipe": " ".join(made.recipe),
        "operations": " ".join(step.operation for step in made.steps),
        "findings": {name: str(finding) for name, finding in found.items()},
        "faults": wrong,
    }
    if wrong:
        kind = wrong[0].partition(":")[0]
        least = smaller(
            made, lambda other: kind in (w.partition(":")[0] for w in check_plan(other)[1])
        )
        result["smaller"] = describe(least)
    return result


def show(seed: int) -> None:
    """Print a seed's network, what is found, and the smallest network with the same fault."""
    from conformance.random_networks import build, describe, plan

    made = plan(seed)
    print(build(made), "\n", describe(made), sep="")
    result = check(str(seed))
    for name, finding in result["findings"].items():
        print(f"{name}: {finding}")
    print(
        result["precision"], result["recipe"], result["faults"], result.get("smaller", ""), sep="\n"
    )


def write(path: Path, results: dict[str, Any]) -> None:
    """Write a row a network."""
    from conformance.checks import CHECKS, SLOW, STEPS

    checks = [name for name in CHECKS if name not in SLOW]
    columns = ["seed", "precision", "recipe", "operations", *STEPS, *checks, "faults", "smaller"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for seed, result in results.items():
            row = {"seed": seed, **result, **result.get("findings", {})}
            writer.writerow(row | {"faults": "; ".join(_wrong(result))})


def _wrong(result: dict[str, Any]) -> list[str]:
    return [result["died"]] if "died" in result else list(result["faults"])


if __name__ == "__main__":
    main()
