"""``bitladder dlc``: write, describe, compare and run what Qualcomm devices load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitladder.cli import quantize as files
from bitladder.cli.arguments import DataRoot, Htp, Json, QdqFile, RequiredHtp, examples
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console

app = typer.Typer(
    no_args_is_help=True, help="Write, describe, compare and run what Qualcomm devices load."
)

DlcFile = Annotated[Path, typer.Argument(metavar="MODEL.dlc", help="The file.")]


@app.command(epilog=examples("dlc convert model.htp.onnx -o model.dlc"))
def convert(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or QDQ ONNX.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .dlc file to write.")],
) -> None:
    """Convert an ONNX file to a DLC; a QDQ one as it is exported for the HTP."""
    from bitladder import targets

    targets.write_dlc(artifact, output)
    _say_written(output)


@app.command(epilog=examples("dlc context model.htp.onnx -o context.onnx --htp v75"))
def context(
    artifact: QdqFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="The .onnx file; the binary is written beside it."),
    ],
    htp: RequiredHtp,
) -> None:
    """Compile a QDQ ONNX file for one version of the Hexagon HTP."""
    from bitladder import targets

    _say_written(targets.write_context(artifact, output, htp))


@app.command(
    epilog=examples(
        "dlc quantize model.onnx --images photos -o model.dlc",
        "dlc quantize model.onnx --input-list inputs.txt -o model.dlc --precision w8a16",
    )
)
def quantize(
    model: files.FloatFile,
    output: files.Written,
    input_list: files.InputList = None,
    images: files.Images = None,
    precision: files.Bits = "w8a8",
    recipe: files.Recipe = "ptq",
    size: files.Size = None,
    mean: files.Mean = "0",
    std: files.Std = "1",
    bgr: files.Bgr = False,
    takes: files.Takes = None,
    limit: files.Limit = 256,
    data_root: DataRoot = None,
) -> None:
    """Like ``bitladder quantize``, for the HTP."""
    files.quantize(
        model, output, images, input_list, precision, recipe, "htp", size, mean, std, bgr, takes,
        limit, data_root=data_root,
    )  # fmt: skip


@app.command(epilog=examples("dlc run model.htp.onnx --input-list inputs.txt -o results"))
def run(
    artifact: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="QDQ ONNX, or a context's .onnx file.")
    ],
    input_list: Annotated[Path, typer.Option(help="A file with a line of raw files an inference.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    htp: Htp = None,
) -> None:
    """Run raw inputs on the HTP emulator; the outputs are Result_N/NAME.raw in the folder."""
    from bitladder import targets

    count = targets.run_raw(artifact, input_list, output, htp)
    print(f"{output}: {count} results")


@app.command(epilog=examples("dlc info model.dlc", "dlc info model.dlc --json"))
def info(path: DlcFile, as_json: Json = False) -> None:
    """Say what a DLC holds: layers, encodings, parameters, multiply-adds, memory."""
    from bitladder import dlc
    from bitladder.report.dlc_table import layer_table, summary_lines, tensor_table

    summaries = dlc.describe(dlc.read(path))
    if as_json:
        print_json(summaries)
        return
    for summary in summaries:
        console().print(layer_table(summary))
        console().print(tensor_table(summary))
        print_lines(summary_lines(summary))


@app.command(epilog=examples("dlc diff model.dlc model.htp.onnx"))
def diff(path: DlcFile, artifact: QdqFile) -> None:
    """Compare a DLC's static tensors and encodings with a QDQ ONNX; exit code 1 if any differ."""
    from bitladder import dlc

    found = dlc.differences(dlc.read(path), artifact)
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{path} holds what {artifact} holds")


def _say_written(path: Path) -> None:
    print(f"{path}: {path.stat().st_size} bytes")
