"""The command line: parse, call, print. Rooms load when a command needs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bitladder
from bitladder import dlc_commands, interruption, report_command, store_commands
from bitladder.errors import BitladderError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from bitladder.pipeline import Results, RunOptions

BAD_INPUT = 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the lowest bit width your CNN survives, and ship exactly the model you measured.",
)

app.add_typer(dlc_commands.app, name="dlc")
app.add_typer(store_commands.app, name="store")

StudyArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY.yaml KEY=VALUE",
        help="A study file (default: the embedded quick study) and changes to it, "
        "such as precisions=[8,4] train.epochs=1.",
    ),
]
Output = Annotated[Path | None, typer.Option(help="Folder of the results; by default below runs.")]
StoreFolder = store_commands.StoreFolder
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; by default one a core.")]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="Run the stages one by one in this process.")
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")
]
Memory = Annotated[
    str | None,
    typer.Option(help="Memory limit of a worker, such as 4GB; by default an equal share of all."),
]
Resources = Annotated[
    list[str] | None,
    typer.Option("--resource", help="Dask resource that training asks of a worker, such as GPU=1."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


def main() -> None:
    """Entry point: what a user can mend is told in one line, with exit code 2."""
    interruption.watch()
    try:
        app()
    except BitladderError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except SystemExit as stop:
        if stop.code == interruption.INTERRUPTED:  # typer's answer to Ctrl-C
            interruption.end()
        raise


def _version(wanted: bool) -> None:
    if wanted:
        print(bitladder.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    from bitladder.report import accuracy_table, watching

    path, overrides = _study(study)
    options = _run_options(output, store, jobs, in_process, scheduler, memory, resource)
    with watching(_console(stderr=True)) as observer:
        results = bitladder.run(path, overrides, options=options, observer=observer)
    if as_json:
        print(json.dumps(_as_json(results), indent=1))
    else:
        console = _console()
        console.print(accuracy_table(results))
        _print_end(results, console)
    if results.failed:
        raise typer.Exit(1)


app.command()(report_command.report)


@app.command()
def explain(
    study: StudyArguments = None,
    images: Annotated[int, typer.Option(min=1, help="Validation images to measure on.")] = 1000,
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
    from bitladder.pipeline import explain as explain_cells
    from bitladder.report import explanation_table, rung_table, watching, write_charts

    path, overrides = _study(study)
    options = _run_options(output, store, jobs, in_process, scheduler, memory, resource)
    with watching(_console(stderr=True)) as observer:
        found = explain_cells(path, overrides, images=images, options=options, observer=observer)
    page = write_charts(found)
    if as_json:
        print(found.layers().to_json(orient="records", indent=1))
    else:
        console = _console()
        console.print(rung_table(found.results))
        console.print(explanation_table(found))
        _print_failed(found.results, console)
        console.print(f"layers: {found.output / 'explain.csv'}", soft_wrap=True, markup=False)
        console.print(f"charts: {page}", soft_wrap=True, markup=False)
    if found.results.failed:
        raise typer.Exit(1)


@app.command()
def plan(study: StudyArguments = None, as_json: Json = False) -> None:
    """Say what a study would run, without reading its data."""
    from bitladder.models.names import check_name
    from bitladder.pipeline import plan as plan_cells
    from bitladder.study import load

    path, overrides = _study(study)
    loaded = load(path, overrides)
    for model in loaded.models:
        check_name(model.name)
    cells = plan_cells(loaded)
    stages = list({stage.key: stage for cell in cells for stage in cell.stages}.values())
    if as_json:
        content = {
            "study": loaded.model_dump(mode="json"),
            "cells": [cell.name for cell in cells],
            "stages": [{"kind": stage.kind, "label": stage.label} for stage in stages],
        }
        print(json.dumps(content, indent=1))
        return
    techniques = " > ".join(technique.name for technique in loaded.recipe)
    print(f"{loaded.name}: {len(cells)} cells, {len(stages)} stages; recipe: {techniques}")
    for stage in stages:
        print(f"  {stage.label}")
    for line in dict.fromkeys(line for cell in cells for line in cell.unseen):
        print(f"note: {line}")


@app.command()
def verify(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The file to run.")],
    images: Annotated[
        str, typer.Option(help="A data set's name, or a folder of images or MNIST-format files.")
    ] = "embedded",
    target: Annotated[
        str, typer.Option(help="Targets, with commas between: onnxruntime,htp.")
    ] = "onnxruntime",
    limit: Annotated[int, typer.Option(min=1, help="Validation images to run.")] = 500,
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Height and width of the images.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that is searched first for data sets.")
    ] = None,
    simulation: Annotated[
        Path | None,
        typer.Option(
            help="quantized.safetensors of the study's cell; by default the file is compared "
            "with itself, computed operation by operation."
        ),
    ] = None,
    htp: Annotated[str | None, typer.Option(help="Version of the HTP, such as v75.")] = None,
    as_json: Json = False,
) -> None:
    """Run an ONNX file on targets and compare it with its simulation."""
    from dataclasses import asdict

    from bitladder import data
    from bitladder.options import DatasetOptions, LoaderOptions
    from bitladder.report import verification_table
    from bitladder.verification import verify as verify_one

    loaded = data.load(
        DatasetOptions(name=images, size=size), LoaderOptions(root=data_root), seed=1
    )
    promised = None if simulation is None else bitladder.QuantizedModel.load(simulation)
    names = [name.strip() for name in target.split(",")]
    found = [
        verify_one(
            artifact,
            loaded.validation.batches(250),
            target=name,
            version=htp if name == "htp" else None,
            simulation=promised,
            limit=limit,
        )
        for name in names
    ]
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    console = _console()
    console.print(verification_table(artifact.name, found))
    for one in found:
        for note in filter(None, (*one.notes, one.saturation)):
            console.print(f"note: {one.target}: {note}", soft_wrap=True, markup=False)


@app.command()
def doctor(
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that is searched first for data sets.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check each part that a study needs, by running it; exit code 1 if a study could not run."""
    from dataclasses import asdict

    from bitladder.doctor import examine

    checks = []
    for check in examine(data_root):
        checks.append(check)
        if not as_json:
            print(f"{check.status:8} {check.name:16} {check.detail}", flush=True)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)


@app.command()
def models(study: StudyArguments = None, as_json: Json = False) -> None:
    """List the size of networks at a study's input; without a study, of the built-in ones."""
    from dataclasses import asdict

    from rich.table import Table

    from bitladder import data
    from bitladder.models import MODELS, build, summarize
    from bitladder.options import ModelOptions
    from bitladder.study import load

    path, overrides = _study(study)
    loaded = load(path, overrides)
    images = data.load(loaded.datasets[0], loaded.data, seed=loaded.seed)
    listed = loaded.models if study else [ModelOptions(name=name) for name in MODELS]
    summaries = []
    for options in listed:
        network = build(options, classes=images.classes, shape=images.shape, seed=loaded.seed)
        summaries.append(summarize(options.name, network, images.shape))
    if as_json:
        print(json.dumps([asdict(summary) for summary in summaries], indent=1))
        return
    size = "x".join(str(length) for length in images.shape)
    table = Table(title=f"{images.name}: {size}, {images.classes} classes", title_justify="left")
    table.add_column("model")
    for column in ("parameters", "MB", "MACs"):
        table.add_column(column, justify="right")
    for summary in summaries:
        table.add_row(
            summary.name,
            f"{summary.parameters:,}",
            f"{summary.size_mb:.3f}",
            f"{summary.macs:,}",
        )
    _console().print(table)


def _study(arguments: list[str] | None) -> tuple[Path | None, list[str]]:
    """Part the study file, if there is one, from the overrides after it."""
    arguments = arguments or []
    if arguments and "=" not in arguments[0]:
        return Path(arguments[0]), arguments[1:]
    return None, arguments


def _run_options(
    output: Path | None,
    store: Path | None,
    jobs: int | None,
    in_process: bool,
    scheduler: str | None,
    memory: str | None,
    resources: list[str] | None,
) -> RunOptions:
    from bitladder.pipeline import RunOptions

    asked = {}
    for resource in resources or ():
        name, _, amount = resource.partition("=")
        try:
            asked[name] = float(amount)
        except ValueError:
            raise StudyError(f"--resource {resource}: not NAME=NUMBER, such as GPU=1") from None
    return RunOptions(
        output=output,
        store=store,
        jobs=jobs,
        in_process=in_process,
        scheduler=scheduler,
        memory=memory,
        resources=asked,
    )


def _as_json(results: Results) -> dict[str, Any]:
    return {
        "study": results.study.name,
        "output": str(results.output),
        "cells": [cell.row() for cell in results.cells],
    }


def _print_failed(results: Results, console: Console) -> None:
    for cell in results.failed:
        text = f"failed: {cell.cell.name}: {cell.error}"
        console.print(text, soft_wrap=True, markup=False)


def _print_end(results: Results, console: Console) -> None:
    from rich.markup import escape

    _print_failed(results, console)
    for cell in results.cells:
        for note in cell.notes:
            console.print(escape(f"note: {cell.cell.name}: {note}"), soft_wrap=True)
    console.print(escape(f"results: {results.output / 'results.csv'}"), soft_wrap=True)
    console.print(escape(f"report: {results.output / 'report.html'}"), soft_wrap=True)
    console.print(escape(f"artifacts: {results.output / 'cells'}"), soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width; nothing is to be cut there
    return console
