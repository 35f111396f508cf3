"""What every target offers: an artifact, loaded, that maps images to logits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitladder import deploy
from bitladder.errors import TargetError, unknown
from bitladder.options import Precision
from bitladder.simulation import SimulatedModel
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

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output of the graph; ``run`` returns the first."""

    def close(self) -> None:
        """Free what the session holds."""


def open_target(
    name: str, artifact: Path, *, threads: int = 0, version: str | None = None
) -> Session:
    """Load an artifact on a target.

    Args:
        name: one of ``TARGETS``.
        artifact: an ONNX file.
        threads: threads to run with, 0 for as many as the target likes.
        version: of the HTP, such as ``v75``; by default the emulator's own.

    Raises:
        TargetError: the target or the version is unknown or not installed, or refuses the artifact.
    """
    if name == "onnxruntime":
        from bitladder.targets.onnxruntime_cpu import OnnxRuntimeSession

        return OnnxRuntimeSession(artifact, threads=threads)
    if name == "htp":
        from bitladder.targets.htp import HtpSession

        return HtpSession(artifact, version)
    raise TargetError(unknown("target", name, TARGETS))


def open_precise(name: str, artifact: Path, *, threads: int = 0) -> Session | None:
    """The session of a target whose sums are exact, where its users' own may saturate; or None.

    Raises:
        TargetError: the target refuses the artifact.
    """
    if name != "onnxruntime":
        return None
    from bitladder.targets.onnxruntime_cpu import OnnxRuntimeSession

    return OnnxRuntimeSession(artifact, threads=threads, precise=True)


def open_unfused(artifact: Path) -> Session:
    """An artifact with every operation by itself, in float between its quantizers.

    Raises:
        TargetError: ONNX Runtime refuses the file.
    """
    from bitladder.targets.onnxruntime_cpu import UnfusedSession

    return UnfusedSession(artifact)


def integer_session(artifact: Path) -> Session:
    """An artifact as ONNX Runtime computes it: its integers by formulas, floats by its own kernels.

    Raises:
        TargetError: the runtime refuses the file, or it holds an operation on integers whose
            arithmetic is not known.
    """
    from bitladder.targets.onnxruntime_cpu import IntegerSession

    return IntegerSession(artifact)


def integer_arithmetic(simulated: SimulatedModel) -> Session:
    """A simulated network as the integer kernels would compute what is exported of it now.

    Raises:
        ExportError: the network cannot be exported.
        TargetError: it holds an operation whose integer arithmetic is not known.
    """
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "model.onnx"
        artifact.write_bytes(deploy.Traced(simulated).qdq().SerializeToString())
        return integer_session(artifact)


def integer_logits(simulated: SimulatedModel, images: Tensor) -> Tensor:
    """The logits (N, classes) of images (N, C, H, W) by ``integer_arithmetic``, on their device.

    Raises:
        ExportError: the network cannot be exported.
        TargetError: it holds an operation whose integer arithmetic is not known.
    """
    logits = integer_arithmetic(simulated).run(images.cpu().contiguous().numpy())
    return torch.from_numpy(logits).to(images.device)


def containers(name: str, precision: Precision) -> tuple[str, ...]:
    """What a target's hardware has no integers for, and which larger ones hold it, a line each."""
    found = []
    for kind, bits in (("weights", precision.weights), ("activations", precision.activations)):
        container = 8 if bits <= 8 else 16
        if name == "htp" and bits != container:
            found.append(f"{bits}-bit {kind} in a {container}-bit container")
    return tuple(found)
