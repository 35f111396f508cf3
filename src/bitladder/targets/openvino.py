"""OpenVINO on the CPU: exact on the file's grids, or on its own integer layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bitladder.errors import TargetError
from bitladder.targets.openvino_form import openvino_form
from bitladder.targets.openvino_integers import integer_layers
from bitladder.targets.qdq_graph import output_steps

_MISSING = "OpenVINO is not installed: pip install 'bitladder[openvino]'"
_LAYERS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
_NAMES = {"Conv": "Convolution", "Gemm": "FullyConnected"}  # by their types in ONNX
_FLOATS = {"f32", "f16", "bf16"}
# A processor with bfloat16 computes in it by default, which has 8 bits for all that is added.
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
_EXACT = {"LP_TRANSFORMS_MODE": "NO"}  # layers of 8-bit integers put sums on grids of their own


def open_session(artifact: Path, *, threads: int, version: str | None) -> OpenvinoSession:
    """See ``TargetSpec.open``; the version is ``fast``, or None for exact."""
    return OpenvinoSession(artifact, threads=threads, fast=version == "fast")


class OpenvinoSession:
    """See ``Session``: a QDQ file in the form that ``openvino_form`` gives it, or a float one.

    Outputs on a grid are its values nearest to what OpenVINO's float operations make of them.

    Args:
        artifact: an ONNX file.
        threads: threads to run with, 0 for as many as the runtime likes.
        fast: on OpenVINO's integer layers; by default layers add in float what lies on the grids.

    Raises:
        TargetError: OpenVINO is not installed, or the file is none that it can run.
    """

    def __init__(self, artifact: Path, *, threads: int = 0, fast: bool = False) -> None:
        try:
            import openvino
        except ImportError:
            raise TargetError(_MISSING) from None
        self.steps: Mapping[str, float] = output_steps(artifact)
        form = openvino_form(onnx.load(artifact), clipped=fast)
        options: dict[str, Any] = {**_OPTIONS, **({} if fast else _EXACT)}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            model = core.compile_model(core.read_model(form.SerializeToString()), "CPU", options)
            self.fallbacks = _floats(model.get_runtime_model(), integer_layers(form))
        except Exception as error:  # the runtime raises its own, of no common type
            raise TargetError(f"{artifact}: OpenVINO refuses it: {_told(error)}") from None
        self._inputs = len(model.inputs)
        self._names = [one.name for one in onnx.load(artifact).graph.output]
        self._request: Any = model.create_infer_request()

    def run(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Map an array an input to every output, by name."""
        if len(inputs) != self._inputs:
            raise TargetError(f"the file takes {self._inputs} inputs, not {len(inputs)}")
        try:
            self._request.infer([np.ascontiguousarray(one) for one in inputs])
        except Exception as error:
            raise TargetError(f"OpenVINO: {_told(error)}") from None
        made = {
            name: self._request.get_output_tensor(place).data.copy()
            for place, name in enumerate(self._names)
        }
        return {name: self._on_grid(name, values) for name, values in made.items()}

    def _on_grid(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        if name not in self.steps:
            return values
        step = np.float32(self.steps[name])
        return np.rint(values / step).astype(np.float32) * step

    def close(self) -> None:
        """Nothing is held beyond the session itself."""


def _floats(executed: Any, integers: Counter[str]) -> tuple[str, ...]:
    """Which layers of an executed graph add floats, a line each.

    Args:
        executed: the graph.
        integers: how many layers of each ONNX type add integers that float32 holds.
    """
    told = [
        {key: str(value.astype(str)) for key, value in one.get_rt_info().items()}
        for one in executed.get_ordered_ops()
    ]
    layers = Counter(
        one["layerType"]
        for one in told
        if one.get("layerType") in _LAYERS and one.get("runtimePrecision") in _FLOATS
    )
    layers -= Counter({_NAMES[kind]: count for kind, count in integers.items()})
    return tuple(f"{count} {kind} computed in float" for kind, count in sorted(layers.items()))


def _told(error: Exception) -> str:
    """What OpenVINO says, without the lines that name its own source files."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Exception from ")]
    return " ".join(" ".join(lines).split())
