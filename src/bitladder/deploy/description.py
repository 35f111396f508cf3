"""What a file says of itself in its metadata: what it takes of an image, and what it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from bitladder import records
from bitladder.options import InputType

KEY = "bitladder.description"
"""Of the metadata of ONNX and .tflite files."""


@dataclass(frozen=True)
class Description:
    """What whoever runs a file has to know.

    Attributes:
        shapes: of one image or signal of each input: channels, height, width.
        input: what it takes of an image: ``float``, or ``uint8``, the bytes of its pixels.
        pixels: floats are pixels in 0 to 1; otherwise nobody said what they are.
        normalization: what the file itself does to the pixels first, as ``Normalization``, or None.
        task: what the outputs mean, or None.
        classes: their names, in the order of the outputs; empty where they have none.
        images: how the images that it was measured on were made, in words.
        dataset: how these were read and split, as ``DatasetOptions`` without their name, or None.
        seed: of that split.
        fingerprint: SHA-256 in hex of these images, their targets and their split, or None.
    """

    shapes: tuple[tuple[int, ...], ...]
    input: InputType = "float"
    pixels: bool = False
    normalization: Mapping[str, Any] | None = None
    task: str | None = None
    classes: tuple[str, ...] = ()
    images: str = ""
    dataset: Mapping[str, Any] | None = None
    seed: int | None = None
    fingerprint: str | None = None

    def lines(self) -> list[str]:
        """What a reader is told, a line each."""
        sizes = ", ".join("x".join(map(str, shape)) for shape in self.shapes)
        takes = "bytes (uint8)" if self.input == "uint8" else "float32"
        found = [f"takes {takes} of {sizes}"]
        if self.pixels:
            found[0] += ", pixels 0 to 255" if self.input == "uint8" else ", pixels in 0 to 1"
        if self.images:
            found.append(f"images: {self.images}")
        if self.normalization is not None:
            mean, std = (
                ", ".join(f"{value:g}" for value in self.normalization[key])
                for key in ("mean", "std")
            )
            order = "; then blue first" if self.normalization.get("bgr") else ""
            found.append(f"normalizes itself: less {mean}, over {std}{order}")
        if self.task is not None:
            found.append(f"task: {self.task}")
        if self.classes:
            found.append(f"classes: {', '.join(self.classes)}")
        return found


def write_description(model: onnx.ModelProto, description: Description) -> None:
    """Put a description into a model's metadata."""
    content = json.dumps(records.plain(description), sort_keys=True)
    model.metadata_props.add(key=KEY, value=content)


def read_description(model: onnx.ModelProto) -> Description | None:
    """What a model's metadata say; None where they say nothing that can be read."""
    content = {entry.key: entry.value for entry in model.metadata_props}.get(KEY)
    return None if content is None else parse_description(content)


def parse_description(content: str) -> Description | None:
    """A description from its text; None where it is none."""
    try:
        return records.read(Description, json.loads(content))
    except (ValueError, RecursionError):
        return None
