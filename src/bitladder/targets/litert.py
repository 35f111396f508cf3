"""LiteRT, Android's own runtime, on the CPU: XNNPACK's kernels or the reference ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitladder.deploy.litert import Tflite, parse_tflite, translate
from bitladder.errors import ExportError, TargetError
from bitladder.outside import read_bytes, read_onnx
from bitladder.targets.integer.litert import Kernels, LitertModel, interpreter

__all__ = ["Kernels", "LitertIntegerSession", "LitertSession", "open_integer", "open_session"]


def open_session(artifact: Path, *, threads: int, version: str | None) -> LitertSession:
    """See ``TargetSpec.open``; there is one version."""
    return LitertSession(artifact, threads=threads)


def open_integer(artifact: Path) -> LitertIntegerSession:
    """See ``TargetSpec.open_integer``."""
    return LitertIntegerSession(artifact)


class LitertIntegerSession:
    """See ``Session``: a file by PyTorch, as LiteRT's integer kernels compute it.

    Args:
        artifact: a .tflite file, otherwise a QDQ ONNX file.
        kernels: see ``LitertSession``.

    Raises:
        TargetError: LiteRT refuses the file, or an operation of it has no integer arithmetic that
            is known.
    """

    fallbacks: tuple[str, ...] = ()

    def __init__(self, artifact: Path, *, kernels: Kernels = "xnnpack") -> None:
        content, described = _read(artifact)
        self.steps: Mapping[str, float] = described.steps
        self._model = LitertModel(content, kernels)

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        return self._model.run(*inputs)

    def close(self) -> None:
        """Nothing is held."""


class LitertSession:
    """See ``Session``: a .tflite file, or a QDQ ONNX file that is translated to one.

    Args:
        artifact: a .tflite file, otherwise a QDQ ONNX file.
        threads: threads to run with, 0 for as many as the runtime likes.
        kernels: ``xnnpack``, as everybody runs it; ``builtin``, LiteRT's own without a delegate;
            ``reference``, its plain ones.

    Attributes:
        inputs: what the interpreter says of the file's inputs, in order.
        names: of the file's outputs.
        description: what the file says that it takes, or None.

    Raises:
        TargetError: LiteRT is not installed, or the file is none that it can run.
    """

    def __init__(self, artifact: Path, *, threads: int = 0, kernels: Kernels = "xnnpack") -> None:
        content, described = _read(artifact)
        self.fallbacks = described.floats
        self.steps: Mapping[str, float] = described.steps
        self.description = described.description
        try:
            self._interpreter = interpreter(content, kernels, threads)
        except TargetError as error:
            raise TargetError(f"{artifact}: {error}") from None
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]
        self.names = [described.tensors[place].name for place in described.outputs]

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name; images run one by one."""
        if len(inputs) != len(self.inputs):
            raise TargetError(f"the file takes {len(self.inputs)} inputs, not {len(inputs)}")
        made = [self.run_once([one[None] for one in row]) for row in zip(*inputs, strict=True)]
        outputs = [np.concatenate(one) for one in zip(*made, strict=True)]
        return dict(zip(self.names, outputs, strict=True))

    def run_once(self, given: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of one run, from arrays in the order of the file's inputs."""
        try:
            for one, values in zip(self.inputs, given, strict=True):
                self._interpreter.set_tensor(one["index"], np.ascontiguousarray(values))
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise TargetError(f"LiteRT: {' '.join(str(error).split())}") from None
        return [self._interpreter.get_tensor(place) for place in self._outputs]

    def close(self) -> None:
        """Nothing is held beyond the session itself."""


def file_size(artifact: Path) -> int:
    """Bytes of the .tflite file, which a QDQ ONNX file is translated to.

    Raises:
        TargetError: it cannot be read or translated.
    """
    return len(_content(artifact))


def _read(artifact: Path) -> tuple[bytes, Tflite]:
    """A .tflite and what it holds."""
    content = _content(artifact)
    try:
        return content, parse_tflite(content, str(artifact))
    except ExportError as error:
        raise TargetError(str(error)) from None


def _content(artifact: Path) -> bytes:
    if artifact.suffix == ".tflite":
        return read_bytes(artifact, refusal=TargetError)
    model = read_onnx(artifact, refusal=TargetError)
    try:
        return translate(model)
    except ExportError as error:
        raise TargetError(f"{artifact}: {error}") from None
