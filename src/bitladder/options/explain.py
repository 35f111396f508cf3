"""Options of explaining the cells of a run: on how many images."""

from __future__ import annotations

from pydantic import Field

from bitladder.options.base import Options


class ExplainOptions(Options):
    """What each quantizer costs alone, measured before any training at low bits."""

    images: int = Field(default=500, ge=1)
    """Validation images, the first of the split."""
