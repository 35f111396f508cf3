"""``bitladder doctor``: is everything there that a study needs, and is its data in order?"""

from __future__ import annotations

import typer

from bitladder.cli.arguments import DataRoot, Json, StudyArguments, split_study
from bitladder.cli.output import print_json


def doctor(study: StudyArguments = None, data_root: DataRoot = None, as_json: Json = False) -> None:
    """Check each part that a study needs, by running it; exit code 1 if a study could not run.

    With STUDY.yaml, say in place of that what is amiss with its data and how its networks fit it.
    """
    if study:
        _examine(study, as_json)
        return
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


def _examine(arguments: list[str], as_json: bool) -> None:
    from bitladder.examination import examine_study
    from bitladder.study import load

    path, overrides = split_study(arguments)
    findings = []
    for finding in examine_study(load(path, overrides)):
        findings.append(finding)
        if not as_json:
            print(f"finding: {finding}", flush=True)
    if as_json:
        print_json(findings)
    elif not findings:
        print("nothing is amiss with the data")
