"""What data sets and networks of a study are called, in tables and as folders: each its own name.

A name stays as it is where it is the only one; only where two would be the same, more is added.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bitladder.options import DatasetOptions, ModelOptions
from bitladder.store import digest

_LONGEST = 60  # characters of a folder's name: up to 240 bytes, and file systems take 255
_HASH = 8


def labels(entries: Sequence[DatasetOptions] | Sequence[ModelOptions]) -> list[str]:
    """What tables call the entries: the name, with its options where two have the same."""
    return _unique(
        [
            (entry.name, " ".join([entry.name, *_options(entry)]), f"{entry.name} {_hash(entry)}")
            for entry in entries
        ]
    )


def folders(entries: Sequence[DatasetOptions] | Sequence[ModelOptions]) -> list[str]:
    """Names of folders of the entries: letters, digits, dots, hyphens and underscores."""
    found = []
    for entry in entries:
        name = entry.name
        last = name if ":" in name else Path(os.path.abspath(name)).name  # noqa: PTH100
        short = _plain(last if isinstance(entry, DatasetOptions) else name)
        whole = _plain(name.strip("/"))
        suffix = "".join(f"-{_plain(option)}" for option in _options(entry))
        found.append(
            (
                short,
                _shortened(short + suffix),
                _shortened(whole + suffix),
                f"{short}-{_hash(entry)}",
            )
        )
    return _unique(found)


def _unique(candidates: Sequence[tuple[str, ...]]) -> list[str]:
    """Of each entry's candidates the first that no other entry has, the case of letters aside.

    The last ones are different from each other.
    """
    level = [0] * len(candidates)
    while True:
        chosen = [entry[at] for entry, at in zip(candidates, level, strict=True)]
        times = Counter(name.casefold() for name in chosen)
        alike = [
            index
            for index, name in enumerate(chosen)
            if times[name.casefold()] > 1 and level[index] < len(candidates[index]) - 1
        ]
        if not alike:
            return chosen
        for index in alike:
            level[index] += 1


def _options(entry: DatasetOptions | ModelOptions) -> list[str]:
    """The options that are not at their default, such as ``size=64``."""
    given: dict[str, Any] = entry.model_dump(mode="json", exclude_defaults=True)
    return [
        key if value is True else f"{key}={value}" for key, value in given.items() if key != "name"
    ]


def _plain(text: str) -> str:
    """A text as part of a folder's name, on every file system."""
    text = unicodedata.normalize("NFKC", text)
    kept = "".join(
        letter if letter.isalnum() or letter in "-_." else "." if letter in "/\\:" else "_"
        for letter in text
    )
    return _shortened(kept.strip("._") or "unnamed")


def _shortened(text: str) -> str:
    return text[:_LONGEST].rstrip(".")


def _hash(entry: DatasetOptions | ModelOptions) -> str:
    return digest(entry.model_dump(mode="json"))[:_HASH]
