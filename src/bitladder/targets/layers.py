"""The first layer in which a target parts from the graph computed operation by operation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bitladder.errors import TargetError
from bitladder.targets.session import open_target, open_unfused


@dataclass(frozen=True)
class LayerDifference:
    """A tensor whose integers a target computes differently.

    Attributes:
        name: of the operation's output in the ONNX graph.
        worst: largest difference, in steps of its grid.
        share: of its values that differ, 0 to 1.
    """

    name: str
    worst: int
    share: float


def layer_differences(
    artifact: Path, target: str, images: NDArray[np.float32], *, version: str | None = None
) -> list[LayerDifference]:
    """Every layer of a QDQ graph whose integers differ, in the order of the graph.

    The target runs the graph with all integers as outputs, against the same graph with every
    operation by itself, in float between its quantizers, as the simulation computes.

    Args:
        artifact: a QDQ ONNX file.
        target: name of the target.
        images: (N, C, H, W).
        version: of the HTP.

    Raises:
        TargetError: the target refuses the file with all its layers as outputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        names = _expose(artifact, path)
        found = []
        for session in (open_target(target, path, version=version), open_unfused(path)):
            try:
                found.append(session.outputs(images))
            finally:
                session.close()
    differences = []
    for name, given, intended in zip(names, found[0][1:], found[1][1:], strict=True):
        apart = np.abs(given.astype(np.int64) - intended.astype(np.int64))
        if apart.any():
            layer = name.removesuffix("_integers").removesuffix("_dequantized")
            differences.append(LayerDifference(layer, int(apart.max()), float((apart > 0).mean())))
    return differences


def _expose(artifact: Path, path: Path) -> list[str]:
    """Write the graph with the integers of its activations as further outputs; their names."""
    try:
        model = onnx.load(artifact)
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] not in constants:
            kind = constants[node.input[2]].data_type if len(node.input) > 2 else TensorProto.UINT8
            model.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
            names.append(node.output[0])
    onnx.save(model, path)
    return names
