"""``bitladder doctor``: is everything there that a study needs?"""

from __future__ import annotations

import typer

from bitladder.cli.arguments import DataRoot, Json
from bitladder.cli.output import print_json


def doctor(data_root: DataRoot = None, as_json: Json = False) -> None:
    """Check each part that a study needs, by running it; exit code 1 if a study could not run."""
    from bitladder.doctor import examine

    checks = []
    for check in examine(data_root):
        checks.append(check)
        if not as_json:
            print(f"{check.status:8} {check.name:16} {check.detail}", flush=True)
    if as_json:
        print_json(checks)
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)
