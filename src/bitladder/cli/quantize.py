"""``bitladder quantize``: an ONNX file of any origin, quantized without a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitladder.cli.arguments import DataRoot
from bitladder.cli.sizes import height_and_width

if TYPE_CHECKING:
    from torch import Tensor

    from bitladder.options import Normalization

FloatFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float ONNX of any origin.")]
Written = Annotated[
    Path, typer.Option("-o", "--output", help="The QDQ .onnx, the .dlc or the .tflite to write.")
]
Images = Annotated[
    str | None,
    typer.Option(
        help="What to calibrate on: a data set's name or a folder of images; this or --input-list."
    ),
]
InputList = Annotated[
    Path | None,
    typer.Option(
        help="A text file with a line for each inference, its raw files; this or --images."
    ),
]
Bits = Annotated[str, typer.Option(help="Bits of weights and activations, such as w4a8.")]
Recipe = Annotated[
    str,
    typer.Option(
        help="A recipe that needs no training, ptq or data_free, or techniques with commas "
        "between: fold_batch_norm,calibrate takes seconds."
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Of images, if the file leaves it open; by default the file's. 224 is both sides.",
    ),
]
Mean = Annotated[
    str,
    typer.Option(
        help="Mean that training took from pixels in 0 to 1: one number, or one a channel."
    ),
]
Std = Annotated[
    str,
    typer.Option(
        help="Deviation that it then divided by: 0.0039216 (1/255) gives pixels of 0 to 255."
    ),
]
Bgr = Annotated[bool, typer.Option("--bgr", help="The network takes blue first, red last.")]
Takes = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="float or uint8: the written file takes pixels in 0 to 1, or their bytes, and --mean, "
        "--std and --bgr become a part of it. By default it takes what the float file takes.",
    ),
]
Encodings = Annotated[
    Path | None,
    typer.Option(
        help="Write the float network, and here AIMET's encodings; by default the quantized one."
    ),
]
EncodingsVersion = Annotated[
    str, typer.Option(help="Version of these encodings: 0.6.1, 1.0.0 or 2.0.0.")
]
Limit = Annotated[int, typer.Option(min=1, help="Images to calibrate on.")]


def quantize(
    model: FloatFile,
    output: Written,
    images: Images = None,
    input_list: InputList = None,
    precision: Bits = "w8a8",
    recipe: Recipe = "ptq",
    target: Annotated[
        str, typer.Option(help="Whom an .onnx is for: onnxruntime or htp.")
    ] = "onnxruntime",
    size: Size = None,
    mean: Mean = "0",
    std: Std = "1",
    bgr: Bgr = False,
    takes: Takes = None,
    limit: Limit = 256,
    encodings: Encodings = None,
    encodings_version: EncodingsVersion = "2.0.0",
    data_root: DataRoot = None,
) -> None:
    """Quantize a float ONNX file without training, run it, and write it for a target."""
    from bitladder import quantized, targets
    from bitladder.errors import DataError
    from bitladder.options import fitting, parse_recipe

    targets.check_suffix(output)
    if (input_list is None) == (images is None):
        raise DataError("give what to calibrate on: either --images or --input-list")
    inside: dict[str, Any] = {}
    if takes is not None:
        inside = {"image_input": takes, "normalize": _normalization(mean, std, bgr)}
    if input_list is not None:
        calibration: Any = _listed(model, input_list, limit)
    else:
        pixels = ("0", "1", False) if inside else (mean, std, bgr)
        calibration = _images(model, str(images), size, limit, data_root, pixels)
    steps = parse_recipe(recipe.split(",") if "," in recipe else recipe)
    if output.suffix == ".tflite":
        steps = fitting(steps, ["litert"])
    made = quantized.quantize(model, calibration, precision, steps, **inside)
    for rung in made.rungs:
        for note in rung.notes:
            print(f"{rung.technique}: {note}", file=sys.stderr)
    written = made.export(
        output, target=target, encodings=encodings, encodings_version=encodings_version
    )
    print(f"{written}: {written.stat().st_size} bytes")


def _images(
    model: Path, name: str, size: str | None, limit: int, root: Path | None, pixels: Any
) -> Tensor:
    """Images as the file takes them, its channels first or last."""
    from bitladder import data, models

    mean, std, bgr = pixels
    wanted = models.image_input(model, height_and_width(size))
    found = data.images_without_targets(
        name, wanted.channels, wanted.height, wanted.width, limit, root
    )
    found = data.standardized(found.flip(1) if bgr else found, _numbers(mean), _numbers(std))
    return found.permute(0, 2, 3, 1) if wanted.channels_last else found


def _listed(model: Path, path: Path, limit: int) -> tuple[Tensor, ...]:
    """The raw files of a list, a tensor an input."""
    import itertools

    import numpy as np
    import torch

    from bitladder import targets
    from bitladder.models.onnx_file import input_count

    input_count(model)  # a file that cannot be read is told before its list is
    lines = list(itertools.islice(targets.read_inputs(path, targets.graph_inputs(model)), limit))
    return tuple(torch.from_numpy(np.concatenate(one)) for one in zip(*lines, strict=True))


def _normalization(mean: str, std: str, bgr: bool) -> Normalization | None:
    """What becomes a part of the network, or None where pixels are taken as they are."""
    from bitladder.errors import DataError
    from bitladder.options import Normalization

    if (mean, std, bgr) == ("0", "1", False):
        return None
    try:
        return Normalization(mean=tuple(_numbers(mean)), std=tuple(_numbers(std)), bgr=bgr)
    except ValueError:
        raise DataError(
            f"--mean {mean} --std {std}: give one number each, or one for each channel; "
            "deviations are positive"
        ) from None


def _numbers(text: str) -> list[float]:
    from bitladder.errors import DataError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"'{text}': give a number, or numbers with commas between") from None
