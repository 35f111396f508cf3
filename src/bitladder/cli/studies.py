"""``bitladder run``, ``plan`` and ``explain``: what is done with a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bitladder
from bitladder.cli.arguments import (
    InProcess,
    Jobs,
    Json,
    Memory,
    Output,
    Resources,
    Scheduler,
    StoreFolder,
    StudyArguments,
    split_study,
)
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console
from bitladder.errors import StudyError

if TYPE_CHECKING:
    from bitladder.pipeline import Results


def run(
    study: StudyArguments = None,
    output: Output = None,
    store: StoreFolder = None,
    jobs: Jobs = None,
    in_process: InProcess = False,
    scheduler: Scheduler = None,
    memory: Memory = None,
    resource: Resources = None,
    as_json: Json = False,
) -> None:
    """Run a study: train, quantize, fine-tune, export, check on the targets, write the results.

    Exit code 1 if a cell failed.
    """
    from bitladder.pipeline import RunOptions
    from bitladder.pipeline.rows import cell_row
    from bitladder.report import answer_table, quality_table, seed_table, watching

    path, overrides = split_study(study)
    options = RunOptions(output, store, jobs, in_process, scheduler, memory, _amounts(resource))
    with watching(console(stderr=True)) as observer:
        results = bitladder.run(path, overrides, options=options, observer=observer)
    if as_json:
        print_json(
            {
                "study": results.study.name,
                "output": str(results.output),
                "cells": [cell_row(cell) for cell in results.cells],
            }
        )
    else:
        console().print(quality_table(results))
        if len(results.study.every_seed) > 1:
            console().print(seed_table(results))
        console().print(answer_table(results, results.study.within))
        print_lines(_end_of_run(results))
    if results.failed:
        raise typer.Exit(1)


def explain(
    study: StudyArguments = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Validation images to measure on; by default those of the study's key explain.",
        ),
    ] = None,
    output: Output = None,
    store: StoreFolder = None,
    jobs: Jobs = None,
    in_process: InProcess = False,
    scheduler: Scheduler = None,
    memory: Memory = None,
    resource: Resources = None,
    as_json: Json = False,
) -> None:
    """Say which layers a study's cells lose accuracy in, before any fine-tuning.

    Exit code 1 if a cell failed.
    """
    from bitladder.pipeline import RunOptions
    from bitladder.pipeline import explain as explain_cells
    from bitladder.report import explanation_table, rung_table, watching, write_charts

    path, overrides = split_study(study)
    options = RunOptions(output, store, jobs, in_process, scheduler, memory, _amounts(resource))
    with watching(console(stderr=True)) as observer:
        found = explain_cells(path, overrides, images=images, options=options, observer=observer)
    page = write_charts(found)
    if as_json:
        print(found.layers().to_json(orient="records", indent=1))
    else:
        console().print(rung_table(found.results))
        console().print(explanation_table(found))
        print_lines(_failures(found.results))
        print_lines([f"layers: {found.output / 'explain.csv'}", f"charts: {page}"])
    if found.results.failed:
        raise typer.Exit(1)


def plan(study: StudyArguments = None, as_json: Json = False) -> None:
    """Say what a study would run, without reading its data."""
    from bitladder.models.names import check_name
    from bitladder.pipeline import plan as plan_cells
    from bitladder.study import load

    path, overrides = split_study(study)
    loaded = load(path, overrides)
    for model in loaded.models:
        check_name(model.name)
    cells = plan_cells(loaded)
    stages = list({stage.key: stage for cell in cells for stage in cell.stages}.values())
    if as_json:
        content: dict[str, Any] = {
            "study": loaded.model_dump(mode="json"),
            "cells": [cell.name for cell in cells],
            "stages": [{"kind": stage.kind.name, "label": stage.label} for stage in stages],
        }
        print_json(content)
        return
    print(f"{loaded.name}: {len(cells)} cells, {len(stages)} stages")
    for recipe in loaded.every_recipe:
        print(f"recipe {recipe.name}: {' > '.join(step.name for step in recipe.steps)}")
    if loaded.within is not None:
        print(f"search: within {loaded.within:g}; what is not needed is not run")
    for stage in stages:
        print(f"  {stage.label}")
    for line in dict.fromkeys(line for cell in cells for line in cell.remarks):
        print(f"note: {line}")


def _amounts(resources: list[str] | None) -> dict[str, float]:
    """Dask resources by name, from texts ``NAME=NUMBER``."""
    asked = {}
    for resource in resources or ():
        name, _, amount = resource.partition("=")
        try:
            asked[name] = float(amount)
        except ValueError:
            raise StudyError(f"--resource {resource}: not NAME=NUMBER, such as GPU=1") from None
    return asked


def _failures(results: Results) -> Iterator[str]:
    for cell in results.failed:
        yield f"failed: {cell.cell.name}: {cell.error}"


def _end_of_run(results: Results) -> Iterator[str]:
    yield from _failures(results)
    for cell in results.cells:
        for note in cell.notes:
            yield f"note: {cell.cell.name}: {note}"
    yield f"results: {results.output / 'results.csv'}"
    yield f"report: {results.output / 'report.html'}"
    yield f"artifacts: {results.output / 'cells'}"
