"""What every target offers: an artifact, loaded, that maps images to logits."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitladder.errors import TargetError, unknown
from bitladder.targets.names import TARGETS


class Session(Protocol):
    """An artifact, loaded on a target.

    Attributes:
        fallbacks: what does not run as the target's integer arithmetic, a line each.
        lsb: step of the integer grid of the logits, or None where they are float.
    """

    fallbacks: tuple[str, ...]
    lsb: float | None

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, C, H, W) to logits (N, classes)."""

    def close(self) -> None:
        """Free what the session holds."""


def open_target(name: str, artifact: Path, *, threads: int = 0) -> Session:
    """Load an artifact on a target.

    Args:
        name: one of ``TARGETS``.
        artifact: an ONNX file.
        threads: threads to run with, 0 for as many as the target likes.

    Raises:
        TargetError: the target is unknown or not installed, or refuses the artifact.
    """
    if name == "onnxruntime":
        from bitladder.targets.onnxruntime_cpu import OnnxRuntimeSession

        return OnnxRuntimeSession(artifact, threads=threads)
    raise TargetError(unknown("target", name, TARGETS))
