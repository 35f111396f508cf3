"""Run a study and write its report: the pipeline and the page in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from bitladder import pipeline
from bitladder.console import console
from bitladder.pipeline.execute import Observer
from bitladder.report.stamp import is_current
from bitladder.report.watch import watching
from bitladder.study import Study


def run(
    study: Study | str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    options: pipeline.RunOptions | None = None,
    observer: Observer | None = None,
    progress: bool = True,
) -> pipeline.Results:
    """Run a study and write its results and, at its end, its report, unless it is there already.

    Args:
        study: a study, the path of its YAML file, or None for the embedded quick study.
        overrides: ``key=value`` changes to the file.
        options: where and how it runs.
        observer: told what happens, as it happens; by default what it is told is printed.
        progress: print what happens on the standard error, where nobody else is told.

    Returns:
        The results of every cell; one that failed carries its reason.

    Raises:
        StudyError, DataError, ModelError: the study cannot begin.
        StoreError: the output folder or the store cannot be written.
    """
    shows = progress and observer is None
    with watching(console(stderr=True)) if shows else nullcontext(observer) as told:
        results = pipeline.run(study, overrides, options=options, observer=told)
    if not is_current(results.output):
        write_report(results.output)
    return results


def write_report(folder: str | Path) -> Path:
    """Render the folder of a run, of this machine or another, from its files alone.

    Args:
        folder: of a run.

    Returns:
        Path of ``report.html``; ``results.md`` and ``figures`` are beside it.

    Raises:
        StoreError: it is not a run's folder, or it cannot be written.
    """
    from bitladder.report.page import write_report as write

    return write(Path(folder))
