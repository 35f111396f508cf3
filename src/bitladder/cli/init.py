"""``bitladder init``: a first study for a folder of images, an ONNX file, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIR MODEL.onnx",
            help="A folder of images with a folder for each class, a float ONNX file, or both; "
            "by default the embedded images.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The study to write; it must not be there.")
    ] = Path("study.yaml"),
) -> None:
    """Write a study for your images or your ONNX file, with its options explained."""
    from bitladder.starter import write_study

    written = write_study(sources or [], output)
    print(f"{written}: read it, then 'bitladder doctor {written}' and 'bitladder run {written}'")
