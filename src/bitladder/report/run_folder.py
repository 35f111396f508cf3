"""A run's folder as it is read again: its tables, its study and the machine that computed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitladder.csv_text import plain
from bitladder.errors import StoreError
from bitladder.outside import LARGEST_TABLE, parse_json, parse_yaml, read_text

if TYPE_CHECKING:
    import pandas

CELL = ["dataset", "model", "precision"]
_TEXT = [
    *(*CELL, "quality", "unit", "higher_is_better", "status"),
    *("notes", "error", "technique", "layer", "kind", "phase"),
]
_NEEDED = {
    "results": [
        *(*CELL, "weight_bits", "activation_bits", "status"),
        *("quality", "unit", "higher_is_better", "validation_images"),
    ],
    "rungs": [*CELL, "rung", "technique"],
    "curves": [*CELL, "phase", "step"],
    "layers": [*CELL, "layer", "kind", "sqnr_db"],
}
_OPTIONAL = ("curves", "layers")  # of runs before there were any


@dataclass(frozen=True)
class RunFolder:
    """What a run wrote.

    Attributes:
        path: the folder.
        name: the study's name.
        results: a row a cell.
        rungs: a row a technique of a cell.
        curves: a row a logged step; empty where the run kept none.
        layers: a row a quantizer; empty where the study did not explain its cells.
        study: the study file's text.
        environment: versions, machine and date.
    """

    path: Path
    name: str
    results: pandas.DataFrame
    rungs: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame
    study: str
    environment: Mapping[str, Any]

    @property
    def machine(self) -> list[str]:
        """The machine in words: cores and processor, memory, system, as far as they are known."""
        machine = self.environment["machine"]
        return [
            f"{machine.get('cores', '?')} cores of {machine.get('processor', '?')}",
            *([f"{machine['memory_gib']} GiB"] if "memory_gib" in machine else []),
            *([str(machine["system"])] if "system" in machine else []),
        ]

    @property
    def date(self) -> str:
        """The day in UTC, or empty where the run did not write it."""
        return str(self.environment.get("date", ""))


def read_run(path: Path) -> RunFolder:
    """Read the folder of a run, of this machine or another.

    Raises:
        StoreError: it is not a run's folder, or one of its files is damaged.
    """
    if not (path / "results.csv").is_file():
        what = "no such folder" if not path.exists() else "there is no results.csv in it"
        raise StoreError(f"{path}: not the folder of a run: {what}; give one that a run wrote")
    study = _text(path / "study.yaml")
    return RunFolder(
        path=path,
        name=_study_name(path / "study.yaml", study),
        results=_table(path, "results"),
        rungs=_table(path, "rungs"),
        curves=_table(path, "curves"),
        layers=_table(path, "layers"),
        study=study,
        environment=_environment(path / "environment.json"),
    )


def _table(folder: Path, name: str) -> pandas.DataFrame:
    import pandas

    path, needed = folder / f"{name}.csv", _NEEDED[name]
    if name in _OPTIONAL and not path.exists():
        return pandas.DataFrame(columns=needed)
    try:
        # A network may be called "NA": only what is empty is missing, and not in names and texts.
        table = pandas.read_csv(path, keep_default_na=False, na_values=[""], dtype=_types())
    except (OSError, ValueError) as error:  # pandas' and Unicode's errors are ValueErrors
        raise StoreError(
            f"{path}: cannot read this table: {' '.join(str(error).split())}"
        ) from None
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise StoreError(
            f"{path}: not a table of a run: the column '{missing[0]}' is missing; "
            "run the study again with this version"
        )
    if name == "results" and table.empty:
        raise StoreError(f"{path}: there are no cells in it; run the study again")
    texts = [column for column in _TEXT if column in table.columns]
    return table.assign(**{column: table[column].fillna("").map(plain) for column in texts})


def _types() -> dict[Any, Any]:
    return dict.fromkeys(_TEXT, str)


def _text(path: Path) -> str:
    return read_text(path, largest=LARGEST_TABLE, refusal=StoreError)


def _study_name(path: Path, text: str) -> str:
    content = parse_yaml(text, str(path), refusal=StoreError)
    if not isinstance(content, dict) or "name" not in content:
        raise StoreError(f"{path}: not a study: it has no name")
    return str(content["name"])


def _environment(path: Path) -> Mapping[str, Any]:
    content = parse_json(_text(path), str(path), refusal=StoreError)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), dict) for key in ("versions", "machine")
    ):
        raise StoreError(f"{path}: versions and machine are missing")
    return content
