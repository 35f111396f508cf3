"""What images the network in an ONNX file takes: their size, and where their channels stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitladder.errors import ModelError
from bitladder.models.onnx_file.importer import real_inputs
from bitladder.models.onnx_file.reading import read

_CHANNELS = (1, 3)  # of grey and of colour images


@dataclass(frozen=True)
class ImageInput:
    """The only input of a network of images.

    Attributes:
        channels: 1 or 3.
        height: in pixels.
        width: in pixels.
        channels_last: it is (N, H, W, C) in place of (N, C, H, W), as TensorFlow's are.
    """

    channels: int
    height: int
    width: int
    channels_last: bool


def image_input(path: str | Path, size: tuple[int, int] | None = None) -> ImageInput:
    """What images the network in an ONNX file takes.

    Args:
        path: the file.
        size: height and width, where the file leaves them open.

    Raises:
        ModelError: the file cannot be read, takes something else than grey or colour images, takes
            them at another size, or leaves the size open and none is given.
    """
    inputs = real_inputs(read(Path(path)))
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else ()
    if len(dims) != 4:
        raise ModelError(
            f"{path}: must take images alone, one input (N, C, H, W) or (N, H, W, C); quantize it "
            "from Python with bitladder.quantize(path, calibration), or give raw files with "
            "'bitladder dlc quantize --input-list'"
        )
    _, second, third, last = (dim.dim_value if dim.dim_value > 0 else None for dim in dims)
    channels_last = second not in _CHANNELS and last in _CHANNELS
    channels, sides = (last, (second, third)) if channels_last else (second, (third, last))
    if channels not in _CHANNELS:
        found = "an open number of" if channels is None else str(channels)
        raise ModelError(
            f"{path}: takes {found} channels, where images have 1 or 3; quantize it from Python "
            "with bitladder.quantize(path, calibration)"
        )
    told = "x".join("?" if side is None else str(side) for side in sides)
    if size is None:
        if None in sides:
            raise ModelError(f"{path}: takes images of {told}, leaving sizes open; give --size HxW")
        size = sides[0] or 0, sides[1] or 0
    if any(own not in (None, given) for own, given in zip(sides, size, strict=True)):
        raise ModelError(f"{path}: takes images of {told}, not of {size[0]}x{size[1]}")
    return ImageInput(channels, *size, channels_last)
