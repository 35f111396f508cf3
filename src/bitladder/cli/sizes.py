"""Sizes of images as a person types them."""

from __future__ import annotations

from bitladder.errors import DataError

_LARGEST = 2**14


def height_and_width(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels of ``480x640``, or of ``224``, which is both; None of nothing.

    Raises:
        DataError: it is something else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= _LARGEST for part in parts):
        raise DataError(f"--size {text}: give height and width in pixels, such as 480x640")
    return int(parts[0]), int(parts[-1])
