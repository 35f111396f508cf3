"""What every target offers: an artifact, loaded, that maps inputs to outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from bitladder import deploy, target_specs
from bitladder.errors import StudyError, TargetError, unknown
from bitladder.options import Precision
from bitladder.simulation import SimulatedModel
from bitladder.structures import Inputs, Outputs
from bitladder.target_specs import TargetSpec
from bitladder.target_specs.record import loaded


class Session(Protocol):
    """An artifact, loaded on a target.

    Attributes:
        fallbacks: what does not run as the target's integer arithmetic, a line each.
        steps: of the integer grid of each output that lies on one, by its name.
    """

    fallbacks: tuple[str, ...]
    steps: Mapping[str, float]

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output of the graph, by name and in order.

        Raises:
            TargetError: there are more or fewer arrays than inputs, or the target fails.
        """

    def close(self) -> None:
        """Free what the session holds."""


def open_target(
    target: str | TargetSpec, artifact: Path, *, threads: int = 0, version: str | None = None
) -> Session:
    """Load an artifact on a target.

    Args:
        target: its name, or ``package.module:NAME`` of a user's.
        artifact: an ONNX file; for ``litert`` a .tflite too.
        threads: threads to run with, 0 for as many as the target likes.
        version: of the target, such as ``v75`` of the HTP; by default its own.

    Raises:
        TargetError: the target or the version is unknown or not installed, or refuses the artifact.
    """
    spec = _find(target)
    if version is not None and version not in spec.versions:
        raise TargetError(unknown(f"version of {spec.name}", version, spec.versions))
    return _of_floats(loaded(spec.open)(artifact, threads=threads, version=version), artifact)


def open_precise(target: str | TargetSpec, artifact: Path, *, threads: int = 0) -> Session | None:
    """The session of a target whose sums are exact, where its users' own may saturate; or None.

    Raises:
        TargetError: the target refuses the artifact.
    """
    spec = _find(target)
    if spec.open_precise is None:
        return None
    return _of_floats(loaded(spec.open_precise)(artifact, threads=threads), artifact)


def _find(target: str | TargetSpec) -> TargetSpec:
    try:
        return target_specs.find(target)
    except StudyError as error:
        raise TargetError(str(error)) from None


def open_unfused(artifact: Path) -> Session:
    """An artifact with every operation by itself, in float between its quantizers.

    Raises:
        TargetError: ONNX Runtime refuses the file.
    """
    from bitladder.targets.onnxruntime_cpu import UnfusedSession

    return _of_floats(UnfusedSession(artifact), artifact)


class _ByteSession:
    """A session whose images are bytes, given pixels in 0 to 1 as the simulation takes them."""

    def __init__(self, session: Session, bytewise: tuple[bool, ...]) -> None:
        self._session, self._bytewise = session, bytewise
        self.fallbacks, self.steps = session.fallbacks, session.steps

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See ``Session.run``; an array of bytes is taken as it is."""
        if len(inputs) != len(self._bytewise):
            return self._session.run(*inputs)
        return self._session.run(
            *(
                deploy.as_bytes(one) if of_bytes and one.dtype.kind == "f" else one
                for one, of_bytes in zip(inputs, self._bytewise, strict=True)
            )
        )

    def close(self) -> None:
        """See ``Session.close``."""
        self._session.close()


def _of_floats(session: Session, artifact: Path) -> Session:
    """A session that takes pixels in 0 to 1, also where its file takes bytes."""
    from bitladder.targets.foreign import takes_bytes

    bytewise = takes_bytes(artifact)
    return _ByteSession(session, bytewise) if any(bytewise) else session


def integer_session(artifact: Path, target: str | TargetSpec = "onnxruntime") -> Session:
    """An artifact as a target computes it: its integers by formulas, floats by its own kernels.

    Args:
        artifact: an ONNX file; for ``litert`` a .tflite too.
        target: whose arithmetic; one that has none of its own is taken for ONNX Runtime.

    Raises:
        TargetError: the runtime refuses the file, or it holds an operation on integers whose
            arithmetic is not known.
    """
    spec = _find(target)
    if spec.open_integer is None:
        spec = _find("onnxruntime")
    assert spec.open_integer is not None
    return _of_floats(loaded(spec.open_integer)(artifact), artifact)


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


def integer_outputs(simulated: SimulatedModel, inputs: Inputs) -> Outputs:
    """The outputs by ``integer_arithmetic``, on the device of the inputs.

    Raises:
        ExportError: the network cannot be exported.
        TargetError: it holds an operation whose integer arithmetic is not known.
    """
    made = integer_arithmetic(simulated).run(*as_arrays(inputs))
    device = inputs[0].device
    return {name: torch.from_numpy(values).to(device) for name, values in made.items()}


def target_outputs(simulated: SimulatedModel, inputs: Inputs, target: str) -> Outputs:
    """The outputs of the file that a target gets of a simulated network as it is now.

    Raises:
        ExportError: the network cannot be exported.
        TargetError: the target is unknown or not installed, or refuses the file.
    """
    spec = _find(target)
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / spec.dialect.file
        deploy.Traced(simulated).write_qdq(artifact, target=spec)
        session = open_target(spec, artifact)
        try:
            made = session.run(*as_arrays(inputs))
        finally:
            session.close()
    return {name: torch.from_numpy(values) for name, values in made.items()}


def as_arrays(inputs: Inputs) -> list[NDArray[Any]]:
    """The inputs as a session takes them."""
    return [one.cpu().contiguous().numpy() for one in inputs]


def containers(target: str | TargetSpec, precision: Precision) -> tuple[str, ...]:
    """What a target's hardware has no integers for, and which larger ones hold it, a line each."""
    widths, found = _find(target).containers, []
    for kind, bits in (("weights", precision.weights), ("activations", precision.activations)):
        container = min((width for width in widths if width >= bits), default=bits)
        if bits != container:
            found.append(f"{bits}-bit {kind} in a {container}-bit container")
    return tuple(found)
