"""Pixels are what a viewer shows; files are written by hand, values are worked out in numpy."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bitladder.data.decode import SCALED, Source, decode

SIDE = 8
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)


def _chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(values, depth=8, kind=0, extra=b""):
    """A PNG of values (H, W) or (H, W, C): kind 0 gray, 2 RGB, 3 palette, 4 gray+A, 6 RGBA."""
    height, width = values.shape[:2]
    if depth < 8:
        rows = [np.packbits(row.astype(np.uint8)).tobytes() for row in values]
    else:
        rows = [row.astype(f">u{depth // 8}").tobytes() for row in values]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values, sample_format, *, black=0):
    """A TIFF of one strip; sample formats: 1 unsigned, 2 signed, 3 float; black: 0, or 1 (full)."""
    height, width = values.shape
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, values.dtype.itemsize * 8),
        (259, 3, 1),
        (262, 3, 1 - black),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(content)),
        (339, 3, sample_format),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + b"\0" * 4


def _decode(tmp_path, content, suffix=".png", size=(SIDE, SIDE)):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    return decode(Source(str(path), hashlib.sha256(content).hexdigest()), size)


def _gray(values):
    """The same values in three channels."""
    return np.repeat(values[None].astype(np.uint8), 3, 0)


def test_16_bit_gray_keeps_its_high_byte(tmp_path):
    values = RAMP * 1000 + 37
    pixels, _ = _decode(tmp_path, png(values, 16))
    assert np.array_equal(pixels, _gray(values >> 8))
    assert len(np.unique(pixels)) > 50


def test_16_bit_colours_keep_their_high_bytes(tmp_path):
    values = np.stack([RAMP * 1000, RAMP * 500 + 99, 65535 - RAMP * 700], -1)
    pixels, _ = _decode(tmp_path, png(values, 16, 2))
    assert np.array_equal(pixels, (values >> 8).transpose(2, 0, 1))


@pytest.mark.parametrize(("sample_format", "dtype"), [(1, np.uint16), (2, np.int32)])
def test_whole_numbers_in_a_tiff(tmp_path, sample_format, dtype):
    values = (RAMP * 900).astype(dtype)
    pixels, remarks = _decode(tmp_path, tiff(values, sample_format), ".tif")
    if dtype == np.uint16:
        assert np.array_equal(pixels, _gray(values >> 8))
        assert SCALED not in remarks
    else:  # 32 bits have no usual white: the image's own range
        assert np.array_equal(pixels, _gray(np.round(values / values.max() * 255)))
        assert SCALED in remarks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_the_file_says_that_zero_is_white(tmp_path, dtype):
    values = (RAMP * (3 if dtype == np.uint8 else 900)).astype(dtype)
    pixels, _ = _decode(tmp_path, tiff(values, 1, black=1), ".tif")
    shown = 255 - (values if dtype == np.uint8 else values >> 8)
    assert np.array_equal(pixels, _gray(shown))


def test_a_16_bit_pgm(tmp_path):
    values = RAMP * 1000
    content = b"P5 8 8 65535\n" + values.astype(">u2").tobytes()
    pixels, _ = _decode(tmp_path, content, ".pgm")
    assert np.array_equal(pixels, _gray(values >> 8))


@pytest.mark.parametrize(
    ("values", "expected", "scaled"),
    [
        (RAMP / 63, np.round(RAMP / 63 * 255), False),
        (RAMP * 4.0, RAMP * 4, False),
        (RAMP * 0.1 - 3, np.round(RAMP / 63 * 255), True),
        (RAMP * 50.0, np.round(RAMP / 63 * 255), True),
        (np.full((8, 8), 7.5), np.zeros((8, 8)), True),
    ],
    ids=["fractions", "whole to 255", "negative", "beyond 255", "one value"],
)
def test_floats(tmp_path, values, expected, scaled):
    content = tiff(values.astype(np.float32), 3)
    pixels, remarks = _decode(tmp_path, content, ".tiff")
    # float32 halves may round either way
    assert np.abs(pixels.astype(int) - _gray(expected)).max() <= (1 if scaled else 0)
    assert pixels.max() == expected.max()
    assert (SCALED in remarks) == scaled


def test_floats_that_are_not_numbers_are_refused(tmp_path):
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        _decode(tmp_path, tiff(values, 3), ".tif")


def test_one_bit(tmp_path):
    values = np.eye(8, dtype=np.uint8)
    pixels, _ = _decode(tmp_path, png(values, 1))
    assert np.array_equal(pixels, _gray(values * 255))


def test_a_palette_with_transparency_lies_on_white(tmp_path):
    values = RAMP % 4
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 100, 0], [7, 7, 7]], np.uint8)
    alpha = np.array([255, 0, 128, 255])
    extra = _chunk(b"PLTE", colours.tobytes()) + _chunk(b"tRNS", bytes(alpha.tolist()))
    pixels, _ = _decode(tmp_path, png(values, 8, 3, extra))
    share = alpha[values][..., None] / 255
    expected = colours[values] * share + 255 * (1 - share)
    assert np.abs(pixels.transpose(1, 2, 0) - expected).max() <= 1
    assert pixels[:, 0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("kind", "channels"), [(4, 2), (6, 4)], ids=["LA", "RGBA"])
def test_alpha_lies_on_white(tmp_path, kind, channels):
    values = np.stack([RAMP * 3] * (channels - 1) + [255 - RAMP * 4], -1)
    pixels, _ = _decode(tmp_path, png(values, 8, kind))
    share = values[..., -1:] / 255
    expected = np.broadcast_to(values[..., :-1] * share + 255 * (1 - share), (8, 8, 3))
    assert np.abs(pixels.transpose(1, 2, 0) - expected).max() <= 1


def test_gray_with_a_transparent_value(tmp_path):
    values = np.where(RAMP % 2, 90, 40)
    pixels, _ = _decode(tmp_path, png(values, 8, 0, _chunk(b"tRNS", struct.pack(">H", 40))))
    assert np.array_equal(pixels, _gray(np.where(RAMP % 2, 90, 255)))


def test_cmyk(tmp_path):
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(buffer, "JPEG")
    pixels, _ = _decode(tmp_path, buffer.getvalue(), ".jpg")
    assert np.abs(pixels.astype(int) - np.array([0, 255, 255])[:, None, None]).max() <= 3


_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a.T[::-1, ::-1],
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("orientation", _UPRIGHT)
@pytest.mark.parametrize("depth", [8, 16])
def test_the_turn_of_a_camera(tmp_path, orientation, depth):
    values = RAMP * (4 if depth == 8 else 1000)
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    pixels, _ = _decode(tmp_path, png(values, depth, 0, _chunk(b"eXIf", exif)))
    expected = values if depth == 8 else values >> 8
    assert np.array_equal(pixels, _gray(_UPRIGHT[orientation](expected)))


def test_metadata_that_cannot_be_read_is_left_out(tmp_path):
    pixels, _ = _decode(tmp_path, png(RAMP, extra=_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")))
    assert np.array_equal(pixels, _gray(RAMP))


@pytest.mark.parametrize("suffix", [".gif", ".tif"])
def test_the_first_of_several_frames(tmp_path, suffix):
    frames = [Image.new("L", (8, 8), value) for value in (40, 200)]
    path = tmp_path / f"frames{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    pixels, _ = _decode(tmp_path, path.read_bytes(), suffix)
    assert np.array_equal(pixels, np.full((3, 8, 8), 40))


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".ppm"])
def test_formats_without_loss(tmp_path, suffix):
    values = np.stack([RAMP * 4, RAMP, 255 - RAMP], -1).astype(np.uint8)
    path = tmp_path / f"colours{suffix}"
    Image.fromarray(values).save(path)
    pixels, _ = _decode(tmp_path, path.read_bytes(), suffix)
    assert np.array_equal(pixels, values.transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(20, 30), (33, 17), (8, 8), (224, 100), (9, 100)])
def test_another_size_is_torchvision_s_resize_and_crop(tmp_path, shape):
    from torchvision import transforms

    values = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    pixels, _ = _decode(tmp_path, png(values, 8, 2), size=(16, 16))
    steps = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16)])
    assert np.array_equal(pixels, np.asarray(steps(Image.fromarray(values))).transpose(2, 0, 1))


def test_a_line_of_pixels_fills_no_memory(tmp_path):
    values = np.full((1, 300_000), 60)
    values[:, 150_000 - 8 : 150_000 + 8] = 200
    pixels, _ = _decode(tmp_path, png(values), size=(224, 224))
    assert pixels[:, :, 112].min() == 200
