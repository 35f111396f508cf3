"""From an image file to the pixels that a person sees in a viewer, as uint8 (3, height, width).

Free of torch, so that a process that decodes starts at once.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.errors import DataError
from bitladder.outside import LARGEST_IMAGE, read_bytes

CODE = 1  # raise it when the same file becomes other pixels

GRAY, SCALED = "gray", "scaled"
"""Remarks on an image: it has no colour; its values were scaled by their own range."""

_GRAY_MODES = ("1", "L", "LA", "La", "I", "F")
_THIN = 16  # longer than so many times its width, an image is cut before it is resized
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION, _PHOTOMETRIC = 0x0112, 262  # tags of TIFF, the first also of EXIF
_WHITE_IS_ZERO = 0

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Source:
    """An image file as it was when its set was read: path and SHA-256 in hex of its bytes."""

    path: str
    digest: str


@dataclass(frozen=True)
class Decoded:
    """Images of one request.

    Attributes:
        pixels: uint8 (N, 3, height, width); zero where an image is bad.
        reasons: what is wrong with each image, or None.
        remarks: of each image.
    """

    pixels: Pixels
    reasons: list[str | None]
    remarks: list[tuple[str, ...]]


def decode_all(sources: list[Source], size: Size) -> Decoded:
    """Decode some images; a bad one is told by its reason and stops none of the others."""
    pixels = np.zeros((len(sources), 3, *size), np.uint8)
    reasons: list[str | None] = []
    remarks: list[tuple[str, ...]] = []
    for row, source in enumerate(sources):
        reason: str | None = None
        remark: tuple[str, ...] = ()
        try:
            pixels[row], remark = decode(source, size)
        except Exception as error:  # Pillow's plugins raise whatever they stumble over
            reason = why(error)
        reasons.append(reason)
        remarks.append(remark)
    return Decoded(pixels, reasons, remarks)


def decode(source: Source, size: Size) -> tuple[Pixels, tuple[str, ...]]:
    """Decode one image: it is resized until it just covers the size, and its middle is cut out.

    Returns:
        uint8 pixels (3, height, width), and remarks.

    Raises:
        Exception: whatever reading and decoding raise.
    """
    content = _content(source.path)
    if hashlib.sha256(content).hexdigest() != source.digest:
        raise ValueError("the file has changed since the data set was read; run again")
    cut, remarks = covering(content, *size)
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1)), remarks


def decode_file(path: Path, height: int, width: int) -> Any:
    """An image file as a Pillow image of that size in RGB.

    Raises:
        Exception: whatever reading and decoding raise.
    """
    return covering(_content(path), height, width)[0]


def covering(content: bytes, height: int, width: int) -> tuple[Any, tuple[str, ...]]:
    """The bytes of an image file as a Pillow image of that size in RGB; and remarks."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large, but under Pillow's limit; odd metadata
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            shown, remarks = as_seen(image)
        return resize_and_crop(shown, height, width), remarks


def as_seen(image: Any) -> tuple[Any, tuple[str, ...]]:
    """The first frame of a Pillow image as 8-bit RGB, upright and on white; and remarks."""
    mode = image.mode
    remarks: tuple[str, ...] = ()
    if mode in _GRAY_MODES or mode.startswith("I;16"):
        remarks += (GRAY,)
    turn = _TURNS.get(_orientation(image))
    if mode in ("I", "F") or mode.startswith("I;16"):
        image, scaled = _as_bytes(image)
        remarks += (SCALED,) if scaled else ()
    elif image.has_transparency_data:
        image = _on_white(image)
    image = image.convert("RGB")
    if turn is not None:
        from PIL import Image

        image = image.transpose(getattr(Image.Transpose, turn))
    return image, remarks


def resize_and_crop(image: Any, height: int, width: int) -> Any:
    """The middle of a Pillow image, resized until it just covers the size.

    For a square it is torchvision's ``Resize(size)`` and ``CenterCrop(size)``.
    """
    from PIL import Image

    across, down = image.size
    shorter = min(image.size)
    if max(image.size) > _THIN * shorter:  # resized whole, it could fill the memory
        across, down = (min(side, _THIN * shorter) for side in image.size)
        left, top = (image.size[0] - across) // 2, (image.size[1] - down) // 2
        image = image.crop((left, top, left + across, top + down))
    if across * height <= down * width:
        wanted = (width, int(width * down / across))
    else:
        wanted = (int(height * across / down), height)
    image = image.resize(wanted, Image.Resampling.BILINEAR)
    left, top = round((wanted[0] - width) / 2), round((wanted[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))


def why(error: BaseException) -> str:
    """Why an image cannot be used, in one line without its address in memory."""
    name = type(error).__name__
    if name == "DecompressionBombError":
        pixels = re.search(r"\d+", str(error))
        return f"has {pixels[0] if pixels else 'far too many'} pixels; make it smaller"
    if name == "UnidentifiedImageError":
        return "not an image, or of a kind that Pillow cannot read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    told = isinstance(error, OSError | ValueError | DataError) and text
    return text if told else f"{name}: {text}"


def versions() -> str:
    """What turns bytes into pixels: this code, Pillow and the libraries that it decodes with."""
    import PIL
    from PIL import features

    names = ("libjpeg_turbo", "jpg", "jpg_2000", "zlib", "libtiff", "webp", "avif")
    found = [f"{name} {features.version(name)}" for name in names]
    return " ".join([f"decode {CODE}", f"pillow {PIL.__version__}", *found])


def _content(path: str | Path) -> bytes:
    content = read_bytes(path, largest=LARGEST_IMAGE, refusal=DataError)
    if not content:
        raise ValueError("the file is empty")
    return content


def _orientation(image: Any) -> int:
    """How the camera was held, where the file says so; what cannot be read is left out."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # metadata is no reason to refuse an image
        return 1


def _as_bytes(image: Any) -> tuple[Any, bool]:
    """Gray values of 16 bits, 32 bits or floats in 0 to 255, and whether by their own range."""
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite numbers")
    low, high = values.min(), values.max()
    scaled = False
    if image.mode.startswith("I;16") or image.format in ("PPM", "PNG"):
        values = np.clip(values, 0, 65535) // 256  # the high byte, as Pillow takes it of colours
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow leaves it
            values = 255 - values
    elif image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255 or (values != np.round(values)).any():
        values = (values - low) * (255 / (high - low) if high > low else 0)
        scaled = True
    return Image.fromarray(np.round(values).astype(np.uint8)), scaled


def _on_white(image: Any) -> Any:
    from PIL import Image

    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours)
