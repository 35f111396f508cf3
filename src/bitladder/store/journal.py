"""What a store has ever made, a line a stage: how long it took, and that nothing was made twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Made:
    """A stage's output was made.

    Attributes:
        key: the stage's key.
        kind: what the stage does.
        label: what a person calls the stage.
        network: data set and network, whose stages take times alike.
        seconds: from the beginning of the stage, or from where it was taken up again.
        at: when it was complete, in UTC (ISO 8601).
    """

    key: str
    kind: str
    label: str
    network: str
    seconds: float
    at: str = ""


class Journal:
    """Lines of JSON that are only ever added to.

    Args:
        path: the file.
        lock: file by which writers take turns.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path, self.lock = path, lock

    def add(self, made: Made) -> None:
        """Write one line."""
        content = {**asdict(made), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        with FileLock(self.lock), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")

    def read(self) -> list[Made]:
        """Every line, the oldest first; one that a full disk has cut off is left out."""
        found = []
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                found.append(Made(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found
