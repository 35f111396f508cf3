"""Precision: how many bits weights and activations have, written ``w4a8`` or ``8``."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_BITS = 2
MAX_BITS = 16
_PATTERN = re.compile(r"w(\d+)a(\d+)(?:-edges(\d+))?")


@dataclass(frozen=True)
class Precision:
    """Bits of weights and activations; ``edges`` for the input and the first and last layer.

    Attributes:
        weights: bits of every weight, 2 to 16.
        activations: bits of every activation, 2 to 16.
        edges: bits of the network's input and of its first and last layer, or None for the same.
    """

    weights: int
    activations: int
    edges: int | None = None

    def __post_init__(self) -> None:
        for bits in (self.weights, self.activations, self.edges):
            if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
                raise ValueError(f"{bits} bits is out of range: {MIN_BITS} to {MAX_BITS}")

    @classmethod
    def parse(cls, text: str | int | Precision) -> Precision:
        """Read ``8``, ``"8"``, ``"w4a8"`` or ``"w4a4-edges8"``.

        Raises:
            ValueError: the text is not a precision, or a number of bits is not in 2 to 16.
        """
        if isinstance(text, Precision):
            return text
        name = str(text).strip().lower()
        if name.isascii() and name.isdigit():
            return cls(int(name), int(name))
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(
                f"'{text}' is not a precision; write 8, w4a8 or w4a4-edges8 "
                f"with {MIN_BITS} to {MAX_BITS} bits"
            )
        weights, activations, edges = match.groups()
        return cls(int(weights), int(activations), int(edges) if edges else None)

    def __str__(self) -> str:
        edges = f"-edges{self.edges}" if self.edges else ""
        return f"w{self.weights}a{self.activations}{edges}"
