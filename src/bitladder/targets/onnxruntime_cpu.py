"""ONNX Runtime on the CPU, optimised as everybody runs it: the reference target."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bitladder.errors import TargetError
from bitladder.targets.graph import output_step
from bitladder.targets.integer import IntegerModel

_FLOAT_LAYERS = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_ERRORS_ONLY = 3


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
        self.lsb = output_step(artifact)
        layers = Counter(node.op_type for node in graph.node if node.op_type in _FLOAT_LAYERS)
        self.fallbacks = tuple(
            f"{count} {kind} computed in float" for kind, count in sorted(layers.items())
        )

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.outputs(images)[0]

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output of the graph."""
        return _run(self._session, images)

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
        self.lsb = output_step(artifact)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.outputs(images)[0]

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output of the graph."""
        return _run(self._session, images)

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
        self.lsb = output_step(artifact)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self._model.run(images)

    def outputs(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The logits alone."""
        return [self.run(images)]

    def close(self) -> None:
        """Nothing is held."""


def _opset(artifact: Path) -> int:
    """Version of ONNX's own operators in a file."""
    imports = onnx.load(artifact, load_external_data=False).opset_import
    return next(int(one.version) for one in imports if one.domain in ("", "ai.onnx"))


def _run(
    session: onnxruntime.InferenceSession, images: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    try:
        outputs: list[NDArray[np.float32]] = session.run(
            None, {session.get_inputs()[0].name: images}
        )
    except Exception as error:
        raise TargetError(f"ONNX Runtime: {' '.join(str(error).split())}") from None
    return outputs


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
