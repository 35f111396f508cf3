"""The checks of a random network: those of an operation's case, ties counted by image."""

from __future__ import annotations

import tempfile
from pathlib import Path

from conformance.checks import CHECKS, SLOW, Subject, run_checks
from conformance.findings import Finding, faults
from conformance.random_networks import Plan, build, images

NAMES = tuple(name for name in CHECKS if name not in SLOW)


def check_plan(made: Plan) -> tuple[dict[str, Finding], list[str]]:
    """Findings by check, and what is wrong in them."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(build(made), images(made), made.precision, made.recipe, Path(folder))
        found = dict(run_checks(subject, NAMES))
    return found, faults(found, subject.bits, deep=True)
