"""Say where each cell of a study loses accuracy: its rungs and what each quantizer costs alone.

The stages are those that a study with the key ``explain`` runs beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bitladder.csv_text import csv_text
from bitladder.errors import StudyError
from bitladder.files import write_whole
from bitladder.isolation import isolated
from bitladder.options import ExplainOptions
from bitladder.pipeline.execute import Observer, Outcome
from bitladder.pipeline.layers import channel_rows
from bitladder.pipeline.loop import execute_all
from bitladder.pipeline.results import Results, collect
from bitladder.pipeline.runner import RunOptions, prepared, tell_unseen
from bitladder.pipeline.tables import Table
from bitladder.study import Study, load

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Explanation:
    """What was found about a study's cells before any training.

    Attributes:
        results: the cells with their rungs up to the recipe's first training.
        output: folder the files are written to.
    """

    results: Results
    output: Path

    def layers(self) -> pandas.DataFrame:
        """One row a quantizer, the costliest of each cell first; the columns of explain.csv."""
        return self.results.layers()

    def ranges(self) -> pandas.DataFrame:
        """One row a channel of every weight; the columns of ranges.csv."""
        rows = [row for cell in self.results.cells for row in channel_rows(cell)]
        return Table(rows).frame()

    def write(self) -> None:
        """Write explain.csv, ranges.csv, rungs.csv and study.yaml.

        Raises:
            StoreError: the folder cannot be written.
        """
        tables = {"explain": self.layers(), "ranges": self.ranges(), "rungs": self.results.rungs()}
        for name, table in tables.items():
            rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
            write_whole(self.output / f"{name}.csv", csv_text(list(table.columns), rows))
        write_whole(self.output / "study.yaml", self.results.study.to_yaml())


@isolated()
def explain(
    study: Study | str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    images: int | None = None,
    options: RunOptions | None = None,
    observer: Observer | None = None,
) -> Explanation:
    """Measure what every quantizer of every cell costs when it alone is on, and write it down.

    Args:
        study: a study, the path of its YAML file, or None for the embedded quick study.
        overrides: ``key=value`` changes to the file.
        images: validation images, the first of the split; by default as many as the study's
            key ``explain`` says, or that key's default.
        options: where and how it runs; the folder is by default ``runs/NAME-explain``.
        observer: told what happens, as it happens.

    Raises:
        StudyError, DataError, ModelError: the study cannot begin.
        StoreError: the output folder or the store cannot be written.
    """
    if not isinstance(study, Study):
        study, overrides = load(study, overrides), ()
    if images is not None or study.explain is None:
        study = study.model_copy(update={"explain": _asked(images)})
    observer = observer or Observer()
    with prepared(study, overrides, options, explain=True) as job:

        def save(outcomes: Mapping[str, Outcome]) -> Explanation:
            found = collect(job.study, job.cells, outcomes, job.output)
            explanation = Explanation(found, job.output)
            explanation.write()
            return explanation

        tell_unseen(job.cells, observer)
        outcomes = execute_all(
            job.name,
            job.cells,
            job.output,
            job.execution,
            observer=observer,
            save=save,
        )
        return save(outcomes)


def _asked(images: int | None) -> ExplainOptions:
    try:
        return ExplainOptions() if images is None else ExplainOptions(images=images)
    except ValidationError:
        raise StudyError(f"explain: {images} images; at least 1 is needed") from None
