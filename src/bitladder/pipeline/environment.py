"""On what a run was computed: versions, machine and date, written beside every result."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bitladder.pipeline.versions import Versions

_OTHERS = ("distributed", "pandas")
_GIBIBYTE = 2**30


def describe_environment() -> dict[str, Any]:
    """Versions and machine, and the day in UTC."""
    found = Versions().everything()
    for package in _OTHERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "versions": found,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / _GIBIBYTE, 1),
        },
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
