"""``bitladder dlc``: write, describe, compare and run what Qualcomm devices load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitladder.cli.arguments import Htp, Json, QdqFile, RequiredHtp
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bitladder.targets import QnnInput

app = typer.Typer(
    no_args_is_help=True, help="Write, describe, compare and run what Qualcomm devices load."
)

DlcFile = Annotated[Path, typer.Argument(metavar="MODEL.dlc", help="The file.")]
InputList = Annotated[
    Path | None, typer.Option(help="A file with a line of raw files an inference.")
]


@app.command()
def convert(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or QDQ ONNX.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .dlc file to write.")],
) -> None:
    """Convert an ONNX file to a DLC; a QDQ one as it is exported for the HTP."""
    from bitladder import targets

    targets.write_dlc(artifact, output)
    _say_written(output)


@app.command()
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


@app.command()
def quantize(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float ONNX.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The .dlc to write, or the QDQ .onnx.")
    ],
    input_list: InputList = None,
    images: Annotated[
        str | None,
        typer.Option(help="A data set's name or a folder of images, in place of a list."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Images to calibrate on.")] = 200,
    weights: Annotated[int, typer.Option(help="Bits of the weights, 4 or 8.")] = 8,
    activations: Annotated[int, typer.Option(help="Bits of the activations, 8 or 16.")] = 8,
) -> None:
    """Quantize a float ONNX file of any origin, without training, and write it as DLC."""
    import tempfile

    from bitladder import targets
    from bitladder.errors import TargetError

    if (input_list is None) == (images is None):
        raise TargetError("give the calibration inputs: either --input-list or --images")
    if output.suffix not in (".dlc", ".onnx"):
        raise TargetError(f"{output}: cannot write '{output.suffix}' files; use .dlc or .onnx")
    inputs = targets.graph_inputs(artifact)
    if images is not None:
        lines = targets.image_lines(_images(images, inputs, limit))
    else:
        assert input_list is not None
        lines = targets.read_inputs(input_list, inputs)
    with tempfile.TemporaryDirectory() as folder:
        as_dlc = output.suffix == ".dlc"
        written = Path(folder) / f"{output.stem}.onnx" if as_dlc else output
        targets.quantize_onnx(artifact, written, lines, weights=weights, activations=activations)
        if as_dlc:
            targets.write_dlc(written, output)
    _say_written(output)


@app.command()
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


@app.command()
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


@app.command()
def diff(path: DlcFile, artifact: QdqFile) -> None:
    """Compare a DLC's static tensors and encodings with a QDQ ONNX; exit code 1 if any differ."""
    from bitladder import dlc

    found = dlc.differences(dlc.read(path), artifact)
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{path} holds what {artifact} holds")


def _images(name: str, inputs: tuple[QnnInput, ...], limit: int) -> NDArray[np.float32]:
    """Images (N, C, H, W) of the size that the only input has."""
    from bitladder import data
    from bitladder.errors import TargetError
    from bitladder.options import DatasetOptions, LoaderOptions

    shape = inputs[0].shape if len(inputs) == 1 else ()
    if len(shape) != 4 or not isinstance(shape[2], int):
        raise TargetError("--images: the model must have one input (N, C, H, W); give --input-list")
    loaded = data.load(DatasetOptions(name=name, size=shape[2]), LoaderOptions(), seed=1)
    found = data.calibration_images(loaded, limit)[0].numpy()
    if found.shape[1:] != tuple(shape[1:]):
        raise TargetError(f"--images: they are {found.shape[1:]}, the model takes {shape[1:]}")
    return found


def _say_written(path: Path) -> None:
    print(f"{path}: {path.stat().st_size} bytes")
