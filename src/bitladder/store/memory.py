"""Small facts that take long to find, by the hash of all that they follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitladder.files import written_aside


def digest(value: Any) -> str:
    """SHA-256 in hex of a JSON value, the same however its keys are ordered."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Memory:
    """Facts in files of JSON, each there whole or not at all.

    Args:
        folder: where they are; it is made when there is something to remember.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, determines: Mapping[str, Any]) -> dict[str, Any] | None:
        """The fact that follows from ``determines``, or None where it is not remembered."""
        try:
            fact = json.loads(self._path(determines).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return fact if isinstance(fact, dict) else None

    def remember(self, determines: Mapping[str, Any], fact: Mapping[str, Any]) -> None:
        """Keep a fact; where it cannot be written, it is found again the next time."""
        path = self._path(determines)
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            with written_aside(path) as aside:
                aside.write_text(json.dumps(fact), encoding="utf-8")

    def _path(self, determines: Mapping[str, Any]) -> Path:
        return self.folder / f"{digest(determines)}.json"
