"""``bitladder verify``: one file on the targets, compared with its simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import bitladder
from bitladder.cli.arguments import DataRoot, Htp, Json
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console


def verify(
    artifact: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The file to run.")],
    images: Annotated[
        str, typer.Option(help="A data set's name, or a folder of images or MNIST-format files.")
    ] = "embedded",
    target: Annotated[
        str,
        typer.Option(
            help="Targets, with commas between: onnxruntime,htp; or all that are installed."
        ),
    ] = "onnxruntime",
    limit: Annotated[int, typer.Option(min=1, help="Validation images to run.")] = 500,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Size of the images; by default as the file says."),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            help="What is done to pixels in 0 to 1 before a file that does not do it itself: "
            "imagenet, or MEAN/STD such as 0.5/0.5, with commas between channels."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What the outputs mean, as in a study; by default as the file says."),
    ] = None,
    data_root: DataRoot = None,
    simulation: Annotated[
        Path | None,
        typer.Option(
            help="quantized.safetensors of the study's cell; by default the file is compared "
            "with itself, computed operation by operation."
        ),
    ] = None,
    encodings: Annotated[
        Path | None,
        typer.Option(help="AIMET's encodings of a float MODEL.onnx, of version 0.6.1 or later."),
    ] = None,
    htp: Htp = None,
    as_json: Json = False,
) -> None:
    """Run an ONNX file on targets and compare it with its simulation."""
    from bitladder import target_specs
    from bitladder.cli.validation_images import validation_images
    from bitladder.report import verification_table

    chosen = validation_images(artifact, images, size, normalize, task, data_root)
    promised = None if simulation is None else bitladder.QuantizedModel.load(simulation)
    found = [
        bitladder.verify(
            artifact,
            chosen.split.batches(250),
            task=chosen.task,
            target=name,
            version=htp if target_specs.find(name).name == "htp" else None,
            simulation=promised,
            encodings=encodings,
            limit=limit,
        )
        for name in _named(target)
    ]
    if as_json:
        print_json(found)
        return
    console().print(verification_table(artifact.name, found))
    print_lines(f"note: {note}" for note in chosen.notes)
    print_lines(
        f"note: {one.target}: {note}"
        for one in found
        for note in filter(None, (*one.notes, one.saturation))
    )


def _named(target: str) -> list[str]:
    """The targets of a list with commas; ``all`` are those whose packages are installed."""
    from importlib.metadata import distributions

    from bitladder import target_specs

    if target.strip() != "all":
        return [name.strip() for name in target.split(",")]
    there = {str(one.name).lower().replace("_", "-") for one in distributions()}
    return [name for name, spec in target_specs.known().items() if there.issuperset(spec.packages)]
