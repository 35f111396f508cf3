"""What commands print: JSON, tables and lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from bitladder.console import console


def print_json(content: Any) -> None:
    """Print plain values and dataclasses as JSON."""
    print(json.dumps(content, indent=1, default=asdict))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, however long they are."""
    shown = console()
    for line in lines:
        shown.print(line, soft_wrap=True)
