"""``bitladder quantize``: an ONNX file of any origin, quantized without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitladder.cli.arguments import DataRoot


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float ONNX of any origin.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The QDQ .onnx or the .dlc to write.")
    ],
    images: Annotated[
        str, typer.Option(help="What to calibrate on: a data set's name or a folder of images.")
    ],
    precision: Annotated[
        str, typer.Option(help="Bits of weights and activations, such as w4a8.")
    ] = "w8a8",
    recipe: Annotated[
        str, typer.Option(help="A recipe that needs no training: ptq or data_free.")
    ] = "ptq",
    target: Annotated[
        str, typer.Option(help="Whom an .onnx is for: onnxruntime or htp.")
    ] = "onnxruntime",
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Of images, where the file leaves it open.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Images to calibrate on.")] = 256,
    data_root: DataRoot = None,
) -> None:
    """Quantize a float ONNX file without training, and write it for a target."""
    from bitladder import data, models, quantized
    from bitladder.errors import DataError, ExportError
    from bitladder.options import DatasetOptions, LoaderOptions
    from bitladder.structures import as_inputs

    if output.suffix not in (".dlc", ".onnx"):
        raise ExportError(f"{output}: cannot write '{output.suffix}' files; use .dlc or .onnx")
    side = models.open_size(model, size)
    loaded = data.load(
        DatasetOptions(name=images, size=side), LoaderOptions(root=data_root), seed=1
    )
    calibration = as_inputs(data.calibration_images(loaded, limit))[0]
    if not len(calibration):
        raise DataError(f"{images}: holds no images to calibrate on")
    made = quantized.quantize(model, calibration, precision, recipe)
    written = made.export(output, target=target)
    print(f"{written}: {written.stat().st_size} bytes")
