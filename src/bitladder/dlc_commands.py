"""``bitladder dlc``: write, describe and compare .dlc files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Write, describe and compare .dlc files.")

DlcFile = Annotated[Path, typer.Argument(metavar="MODEL.dlc", help="The file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


@app.command()
def convert(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or QDQ ONNX.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .dlc file to write.")],
) -> None:
    """Convert an ONNX file to a DLC; a QDQ one as it is exported for the HTP."""
    from bitladder.targets.convert import write_dlc

    write_dlc(artifact, output)
    print(f"{output}: {output.stat().st_size} bytes")


@app.command()
def info(path: DlcFile, as_json: Json = False) -> None:
    """Say what a DLC holds: layers, encodings, parameters, multiply-adds, memory."""
    from dataclasses import asdict

    from rich.console import Console

    from bitladder import dlc
    from bitladder.report.dlc_table import layer_table, summary_lines

    summaries = dlc.describe(dlc.read(path))
    if as_json:
        print(json.dumps([asdict(summary) for summary in summaries], indent=1))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    for summary in summaries:
        console.print(layer_table(summary))
        for line in summary_lines(summary):
            console.print(line, markup=False, soft_wrap=True)


@app.command()
def diff(
    path: DlcFile,
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="QDQ ONNX.")],
) -> None:
    """Compare a DLC's static tensors and encodings with a QDQ ONNX; exit code 1 if any differ."""
    from bitladder import dlc
    from bitladder.dlc.diff import differences

    found = differences(dlc.read(path), artifact)
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{path} holds what {artifact} holds")
