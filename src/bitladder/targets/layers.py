"""The layers in which a target parts from the simulation, or from the graph run by operation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.qdq import MOVEMENT
from bitladder.errors import TargetError
from bitladder.simulation import Activation, SimulatedModel, activations
from bitladder.targets.session import Session, open_target, open_unfused


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
    artifact: Path,
    target: str,
    images: NDArray[np.float32],
    *,
    version: str | None = None,
    simulation: SimulatedModel | None = None,
) -> list[LayerDifference]:
    """Every layer of a QDQ graph whose integers differ, in the order of the graph.

    The target runs the graph with all integers as outputs. They are compared with those of the
    simulation, whose quantizers are found by their scale and shape; without one, with the graph's
    own where every operation runs by itself, in float between its quantizers.

    Args:
        artifact: a QDQ ONNX file.
        target: name of the target.
        images: (N, C, H, W).
        version: of the HTP.
        simulation: the network that the file was written from.

    Raises:
        TargetError: the target refuses the file with all its layers as outputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        grids = _expose(artifact, path)
        given = _outputs(open_target(target, path, version=version), images)
        if simulation is None:
            pairs = list(zip(grids, given, _outputs(open_unfused(path), images), strict=True))
        else:
            pairs = list(_matched(grids, given, activations(simulation, torch.from_numpy(images))))
    differences = []
    for grid, found, intended in pairs:
        apart = np.abs(found.astype(np.int64) - intended.astype(np.int64))
        if apart.any():
            worst, share = int(apart.max()), float((apart > 0).mean())
            differences.append(LayerDifference(grid.layer, worst, share))
    return differences


@dataclass(frozen=True)
class _Grid:
    """An activation's integers in the graph.

    Attributes:
        tensor: their name.
        kind: ONNX's number of their type.
        scale: step of the grid.
        zero_point: integer of the value 0.
    """

    tensor: str
    kind: int
    scale: float
    zero_point: int

    @property
    def layer(self) -> str:
        """Whose output they are."""
        return self.tensor.removesuffix("_integers").partition("_dequantized")[0]


def _outputs(session: Session, images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
    """Every integer tensor, without the logits."""
    try:
        return list(session.outputs(images)[1:])
    finally:
        session.close()


def _matched(
    grids: list[_Grid], given: list[NDArray[np.generic]], intended: list[Activation]
) -> Iterator[tuple[_Grid, NDArray[np.generic], NDArray[np.generic]]]:
    """Each activation of the simulation, as integers, with the first tensor on its grid."""
    left = list(intended)
    for grid, found in zip(grids, given, strict=True):
        for place, activation in enumerate(left):
            if activation.scale == grid.scale and activation.values.shape == found.shape:
                steps = np.rint(activation.values.numpy() / np.float32(grid.scale))
                yield grid, found, steps + grid.zero_point
                del left[place]
                break


def _expose(artifact: Path, path: Path) -> list[_Grid]:
    """Write the graph with the integers of its activations as further outputs; their grids."""
    try:
        model = onnx.load(artifact)
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
    grids = _grids(model.graph)
    model.graph.output.extend(
        helper.make_tensor_value_info(grid.tensor, grid.kind, None) for grid in grids
    )
    onnx.save(model, path)
    return grids


def _grids(graph: onnx.GraphProto) -> list[_Grid]:
    """The activations of a graph, each once.

    Copies are left out: what only moves values keeps their integers. Of two quantizers in a row at
    one scale, which saturate at the bottom and the top of a narrow grid, the second counts; each
    reader has one of its own.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    found: dict[str, _Grid] = {}
    left_out: set[str] = set()
    for node in graph.node:
        parameters = [constants.get(name) for name in node.input[1:]]
        if node.op_type != "QuantizeLinear" or any(p is None or p.size != 1 for p in parameters):
            continue
        scale, zero_point = (*parameters, np.zeros((), np.uint8))[:2]
        kind = helper.np_dtype_to_tensor_dtype(zero_point.dtype)
        name, before = node.output[0], makers.get(node.input[0])
        found[name] = _Grid(name, kind, float(scale), int(zero_point))
        if before is None:
            continue
        if before.op_type in MOVEMENT:
            left_out.add(name)
        source = before.input[0] if before.op_type == "DequantizeLinear" else ""
        if source in found and found[source].scale == found[name].scale:
            if source in left_out:  # a copy, or saturated for another reader already
                left_out.add(name)
            left_out.add(source)
    return [grid for name, grid in found.items() if name not in left_out]
