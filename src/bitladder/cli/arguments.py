"""Arguments and options that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY.yaml KEY=VALUE",
        help="A study file (default: the embedded quick study) and changes to it, "
        "such as precisions=[8,4] train.epochs=1.",
    ),
]

Output = Annotated[Path | None, typer.Option(help="Folder of the results; by default below runs.")]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of finished stages; by default $BITLADDER_STORE or runs/store."
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; by default one a core.")]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="Run the stages one by one in this process.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, such as tcp://host:8786; by default one is started here."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(help="Memory limit of a worker, such as 4GB; by default an equal share of all."),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        help="Dask resource that training asks of a worker, such as GPU=1; by default none.",
    ),
]

DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that is searched first for data sets; by default $BITLADDER_DATA, then data."
    ),
]
QdqFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="QDQ ONNX.")]
Htp = Annotated[
    str | None, typer.Option(help="Version of the HTP, such as v75; by default the emulator's own.")
]
RequiredHtp = Annotated[str, typer.Option(help="Version of the HTP, such as v75.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


def examples(*lines: str) -> str:
    """The end of a command's help: how it is called, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  bitladder {line}" for line in lines)


def split_study(arguments: list[str] | None) -> tuple[Path | None, list[str]]:
    """Part the study file, if there is one, from the overrides after it."""
    arguments = arguments or []
    if arguments and "=" not in arguments[0]:
        return Path(arguments[0]), arguments[1:]
    return None, arguments
