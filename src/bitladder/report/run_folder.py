"""A run's folder as it is read again: its tables, its study and the machine that computed it."""

from __future__ import annotations

import re
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
    *(*CELL, "recipe", "quality", "unit", "higher_is_better", "status"),
    *("files", "notes", "error", "technique", "layer", "kind", "phase", "change"),
]
_NEEDED = {
    "results": [
        *(*CELL, "weight_bits", "activation_bits", "status"),
        *("quality", "unit", "higher_is_better", "validation_images"),
    ],
    "rungs": [*CELL, "rung", "technique"],
    "curves": [*CELL, "phase", "step"],
    "layers": [*CELL, "layer", "kind", "sqnr_db"],
    "flips": [*CELL, "image", "change", "truth", "float", "quantized"],
    "classes": [*CELL, "class", "images", "float", "quantized", "loss"],
    "confusion": [*CELL, "truth", "answer", "float", "quantized"],
    "seeds": [*CELL, "recipe", "seeds", "quantized", "loss"],
}
_OPTIONAL = (
    "curves",
    "layers",
    "flips",
    "classes",
    "confusion",
    "seeds",
)  # of runs before there were any


_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


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
        flips: a row an image whose answer changes; empty of runs before there were any.
        classes: a row a class; likewise.
        confusion: a row a mistake that quantization adds; likewise.
        seeds: what the seeds of a cell come to; likewise.
        pictures: of images that flip, JPEG in base64, by data set and number.
        study: the study file's text.
        environment: versions, machine and date.
    """

    path: Path
    name: str
    results: pandas.DataFrame
    rungs: pandas.DataFrame
    curves: pandas.DataFrame
    layers: pandas.DataFrame
    flips: pandas.DataFrame
    classes: pandas.DataFrame
    confusion: pandas.DataFrame
    seeds: pandas.DataFrame
    pictures: Mapping[str, Mapping[str, str]]
    study: str
    environment: Mapping[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of results.csv, precisions with what tells them apart."""
        found: list[dict[str, Any]] = self.results.to_dict("records")  # type: ignore[assignment]
        return found

    @property
    def written(self) -> list[dict[str, Any]]:
        """The rows of results.csv as they were written."""
        return [{**row, "precision": row["written_precision"]} for row in self.rows]

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
        flips=_table(path, "flips"),
        classes=_table(path, "classes"),
        confusion=_table(path, "confusion"),
        seeds=_table(path, "seeds"),
        pictures=_pictures(path / "flips.json"),
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
    return _told_apart(
        table.assign(**{column: table[column].fillna("").map(plain) for column in texts})
    )


def _told_apart(table: pandas.DataFrame) -> pandas.DataFrame:
    """A table whose precisions name the recipe and the seed too, where there are several.

    What was there is kept as ``written_precision``.
    """
    table = table.assign(written_precision=table["precision"])
    for column, before in (("recipe", " "), ("seed", " seed ")):
        if column in table.columns and table[column].nunique() > 1:
            table = table.assign(precision=table["precision"] + before + table[column].astype(str))
    return table


def _pictures(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Pictures that are what they should be; a page holds nothing else of the file."""
    if not path.exists():
        return {}
    content = parse_json(_text(path), str(path), refusal=StoreError)
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not pictures by data set and number; run the study again")
    return {
        dataset: {number: text for number, text in of.items() if _BASE64.fullmatch(str(text))}
        for dataset, of in content.items()
        if isinstance(of, dict)
    }


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
