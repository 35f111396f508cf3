"""``bitladder tflite``: write, describe and run what Android's own runtime loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitladder.cli.arguments import Json, QdqFile, examples
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console

app = typer.Typer(no_args_is_help=True, help="Write, describe and run what Android's LiteRT loads.")

TfliteFile = Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="The file.")]


@app.command(epilog=examples("tflite convert model.onnx -o model.tflite"))
def convert(
    artifact: QdqFile,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tflite file to write.")],
) -> None:
    """Write a QDQ ONNX file as .tflite, with the same integers and scales."""
    from bitladder.deploy.litert import write_tflite
    from bitladder.errors import ExportError
    from bitladder.outside import read_onnx

    write_tflite(read_onnx(artifact, refusal=ExportError), output)
    print(f"{output}: {output.stat().st_size} bytes")


@app.command(epilog=examples("tflite info model.tflite"))
def info(path: TfliteFile, as_json: Json = False) -> None:
    """Say what a .tflite file holds: operators, tensors, grids, bytes."""
    from bitladder.deploy.litert import read_tflite
    from bitladder.report.tflite_table import operator_table, summary_lines, tensor_table

    found = read_tflite(path)
    if as_json:
        print_json(found)
        return
    console().print(operator_table(found))
    console().print(tensor_table(found))
    print_lines(summary_lines(found))


@app.command(epilog=examples("tflite run model.tflite --input-list inputs.txt -o results"))
def run(
    artifact: TfliteFile,
    input_list: Annotated[Path, typer.Option(help="A file with a line of raw files an inference.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    reference: Annotated[
        bool, typer.Option("--reference", help="Run LiteRT's plain kernels, not XNNPACK's.")
    ] = False,
) -> None:
    """Run raw inputs on LiteRT; the outputs are Result_N/NAME.raw in the folder."""
    from bitladder.targets.litert_raw import run_raw

    count = run_raw(artifact, input_list, output, "reference" if reference else "xnnpack")
    print(f"{output}: {count} results")
