"""What a store holds, output by output, for those who look into it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bitladder.store.outputs import Store
from bitladder.store.usage import registered, size


@dataclass(frozen=True)
class Entry:
    """An output in the store.

    Attributes:
        key: the stage's key.
        kind: what the stage does; empty where neither journal nor a study tells.
        label: what a person calls it.
        bytes: size of its files.
        age_seconds: time since it was made.
        studies: names of the studies that use it.
    """

    key: str
    kind: str
    label: str
    bytes: int
    age_seconds: float
    studies: tuple[str, ...]


def entries(store: Store) -> list[Entry]:
    """Every output, the oldest first, damaged ones too."""
    labels = {made.key: made.label for made in store.journal.read()}
    studies: dict[str, set[str]] = {}
    for registration in registered(store):
        labels |= registration.stages
        for key in registration.stages:
            studies.setdefault(key, set()).add(registration.study)
    found = []
    for folder in store.stages.iterdir():
        kind, _, label = labels.get(folder.name, "").partition(" ")
        found.append(
            Entry(
                key=folder.name,
                kind=kind,
                label=label or folder.name[:16],
                bytes=size(folder),
                age_seconds=round(time.time() - folder.stat().st_mtime, 1),
                studies=tuple(sorted(studies.get(folder.name, ()))),
            )
        )
    return sorted(found, key=lambda entry: -entry.age_seconds)
