"""ONNX Runtime on the CPU, optimised as everybody runs it: the reference target."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

from bitladder.errors import TargetError
from bitladder.targets.integer import IntegerModel
from bitladder.targets.qdq_graph import output_steps

_FLOAT_LAYERS = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_ERRORS_ONLY = 3


def open_session(artifact: Path, *, threads: int, version: str | None) -> OnnxRuntimeSession:
    """See ``TargetSpec.open``; there is one version."""
    return OnnxRuntimeSession(artifact, threads=threads)


def open_precise(artifact: Path, *, threads: int) -> OnnxRuntimeSession:
    """See ``TargetSpec.open_precise``."""
    return OnnxRuntimeSession(artifact, threads=threads, precise=True)


class OnnxRuntimeSession:
    """See ``Session``: with default options, as everybody opens a file.

    Args:
        artifact: an ONNX file.
        threads: threads to run with, 0 for as many as the runtime likes.
        precise: set ``session.x64quantprecision``, so that sums of integer products are exact on
            every processor; by default x86 kernels without VNNI saturate 16-bit partial sums of
            int8 weights.

    Raises:
        TargetError: the file is not an ONNX model that this runtime can run.
    """

    def __init__(self, artifact: Path, *, threads: int = 0, precise: bool = False) -> None:
        self._session, graph = _open(artifact, threads, precise=precise)
        self.steps: Mapping[str, float] = output_steps(artifact)
        layers = Counter(node.op_type for node in graph.node if node.op_type in _FLOAT_LAYERS)
        self.fallbacks = tuple(
            f"{count} {kind} computed in float" for kind, count in sorted(layers.items())
        )

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        return _run(self._session, inputs)

    def close(self) -> None:
        """Nothing is held beyond the session itself."""


class UnfusedSession:
    """See ``Session``: every operation of an artifact by itself, in float between its quantizers.

    Raises:
        TargetError: the runtime refuses the file.
    """

    fallbacks: tuple[str, ...] = ()

    def __init__(self, artifact: Path, *, threads: int = 0) -> None:
        self._session, _ = _open(artifact, threads, fused=False)
        self.steps: Mapping[str, float] = output_steps(artifact)

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        return _run(self._session, inputs)

    def close(self) -> None:
        """Nothing is held beyond the session itself."""


class IntegerSession:
    """See ``Session``: the artifact by PyTorch, as ONNX Runtime's integer kernels compute it.

    Raises:
        TargetError: the runtime refuses the file, or an operation of it has no integer arithmetic
            that is known.
    """

    fallbacks: tuple[str, ...] = ()

    def __init__(self, artifact: Path) -> None:
        _, graph = _open(artifact, 1)
        self._model = IntegerModel(graph, _opset(artifact))
        self.steps: Mapping[str, float] = output_steps(artifact)

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        return self._model.run(*inputs)

    def close(self) -> None:
        """Nothing is held."""


def _opset(artifact: Path) -> int:
    """Version of ONNX's own operators in a file."""
    imports = onnx.load(artifact, load_external_data=False).opset_import
    return next(int(one.version) for one in imports if one.domain in ("", "ai.onnx"))


def _run(
    session: onnxruntime.InferenceSession, inputs: tuple[NDArray[Any], ...]
) -> dict[str, NDArray[Any]]:
    names = [given.name for given in session.get_inputs()]
    if len(names) != len(inputs):
        raise TargetError(
            f"the file takes {len(names)} inputs ({', '.join(names)}), not {len(inputs)}"
        )
    try:
        made = session.run(None, dict(zip(names, inputs, strict=True)))
    except Exception as error:
        raise TargetError(f"ONNX Runtime: {' '.join(str(error).split())}") from None
    return dict(zip((output.name for output in session.get_outputs()), made, strict=True))


def _open(
    artifact: Path, threads: int, *, fused: bool = True, precise: bool = False
) -> tuple[onnxruntime.InferenceSession, onnx.GraphProto]:
    """A session, and the graph that it executes after all optimizations, or after none."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fused else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        try:
            session = onnxruntime.InferenceSession(
                str(artifact), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises its own, of no common type
            reason = " ".join(str(error).split())
            raise TargetError(f"{artifact}: ONNX Runtime refuses it: {reason}") from None
        return session, onnx.load(optimized).graph
