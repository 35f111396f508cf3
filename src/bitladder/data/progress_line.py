"""A line on the terminal that says how far a long reading of images is."""

from __future__ import annotations

import sys
import time

_EVERY = 0.5  # seconds
_SILENT = 2.0  # a short reading says nothing


class ProgressLine:
    """Writes ``WHAT: 1,200 of 14,000 images, 350/s`` over itself; nothing where nobody watches."""

    def __init__(self, what: str, images: int) -> None:
        self.what, self.images, self.done = what, images, 0
        self.started = self.told = time.monotonic()
        self.shown = False

    def add(self, images: int) -> None:
        """Count images that are done."""
        self.done += images
        now = time.monotonic()
        seconds = now - self.started
        if seconds < _SILENT or now - self.told < _EVERY or not sys.stderr.isatty():
            return
        self.told, self.shown = now, True
        rate = self.done / seconds
        sys.stderr.write(
            f"\r\x1b[K{self.what}: {self.done:,} of {self.images:,} images, {rate:,.0f}/s"
        )
        sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
