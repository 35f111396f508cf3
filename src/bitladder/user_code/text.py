"""An error of the user's code in one line."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Type and text of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
