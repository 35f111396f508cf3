"""LiteRT, Android's own runtime, on the CPU: XNNPACK's kernels or the reference ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitladder.deploy.litert import MISSING, parse_tflite, translate
from bitladder.errors import ExportError, TargetError
from bitladder.outside import read_bytes, read_onnx

Kernels = Literal["xnnpack", "builtin", "reference"]
_RESOLVERS = {
    "xnnpack": "BUILTIN",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


def open_session(artifact: Path, *, threads: int, version: str | None) -> LitertSession:
    """See ``TargetSpec.open``; there is one version."""
    return LitertSession(artifact, threads=threads)


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

    Raises:
        TargetError: LiteRT is not installed, or the file is none that it can run.
    """

    def __init__(self, artifact: Path, *, threads: int = 0, kernels: Kernels = "xnnpack") -> None:
        content = _content(artifact)
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise TargetError(MISSING) from None
        try:
            described = parse_tflite(content, str(artifact))
        except ExportError as error:
            raise TargetError(str(error)) from None
        self.fallbacks = described.floats
        self.steps: Mapping[str, float] = described.steps
        try:
            self._interpreter: Any = Interpreter(
                model_content=content,
                experimental_op_resolver_type=getattr(OpResolverType, _RESOLVERS[kernels]),
                num_threads=threads or None,
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise TargetError(f"{artifact}: LiteRT refuses it: {reason}") from None
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


def _content(artifact: Path) -> bytes:
    if artifact.suffix == ".tflite":
        return read_bytes(artifact, refusal=TargetError)
    model = read_onnx(artifact, refusal=TargetError)
    try:
        return translate(model)
    except ExportError as error:
        raise TargetError(f"{artifact}: {error}") from None
