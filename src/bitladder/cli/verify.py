"""``bitladder verify``: one file on the targets, compared with its simulation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import bitladder
from bitladder.cli.arguments import DataRoot, Htp, Json
from bitladder.cli.output import print_json, print_lines
from bitladder.console import console
from bitladder.errors import TargetError
from bitladder.steps_shown import Tell, shown

if TYPE_CHECKING:
    from bitladder.verification import Verification

_REFUSED = 1  # exit code where a target that was asked for has no figures


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
            "imagenet, or MEAN/STD such as 0.5/0.5, with commas between channels; by "
            "default what the file says, or nothing."
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
        typer.Option(
            help="AIMET's encodings of a float MODEL.onnx; by default it holds its grids."
        ),
    ] = None,
    htp: Htp = None,
    as_json: Json = False,
) -> None:
    """Run an ONNX file on targets and compare it with its simulation."""
    from bitladder import target_specs
    from bitladder.cli.validation_images import validation_images

    chosen = validation_images(artifact, images, size, normalize, task, data_root)
    promised = None if simulation is None else bitladder.QuantizedModel.load(simulation)
    names, found, refused = _named(target), [], []
    with shown(True) as tell:
        for place, name in enumerate(names, 1):
            try:
                found.append(
                    bitladder.verify(
                        artifact,
                        chosen.split.batches(250),
                        task=chosen.task,
                        target=name,
                        version=htp if target_specs.find(name).name == "htp" else None,
                        simulation=promised,
                        encodings=encodings,
                        limit=limit,
                        progress=_placed(tell, place, len(names)),
                    )
                )
            except TargetError as error:
                if len(names) == 1:
                    raise
                refused.append(f"{name}: {error}")
    for line in refused:
        print(f"not measured: {line}", file=sys.stderr)
    if as_json:
        print_json(found)
    elif found:
        _print(artifact.name, found, chosen.notes)
    if refused:
        raise typer.Exit(_REFUSED)


def _print(name: str, found: list[Verification], notes: Sequence[str]) -> None:
    from bitladder.report import verification_table

    console().print(verification_table(name, found))
    print_lines(f"note: {note}" for note in notes)
    print_lines(
        f"note: {one.target}: {note}"
        for one in found
        for note in filter(None, (*one.notes, one.saturation))
    )


def _placed(tell: Tell, place: int, count: int) -> Tell:
    """Tells of a target that it is one of several."""
    return lambda step: tell(replace(step, number=place, count=count))


def _named(target: str) -> list[str]:
    """The targets of a list with commas; of ``all``, those that are not installed are told."""
    from bitladder import target_specs

    if target.strip() != "all":
        names = [name.strip() for name in target.split(",")]
        for name in names:
            target_specs.find(name)  # an unknown one is told before any runs
        return names
    every = target_specs.known()
    for name, spec in every.items():
        if spec.missing is not None:
            print(f"not measured: {name}: {spec.missing}", file=sys.stderr)
    return [name for name, spec in every.items() if spec.missing is None]
