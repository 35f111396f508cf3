"""The layers in which a target parts from the simulation, or from the graph run by operation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MOVEMENT: set[str] = set()
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

    The target runs the graph with all activations as outputs. They are compared with those of the
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
        grids, names = _expose(artifact, path)
        given = _outputs(open_target(target, path, version=version), names, images)
        if simulation is None:
            intended = _outputs(open_unfused(path), names, images)
        else:
            intended = _matched(grids, given, activations(simulation, torch.from_numpy(images)))
    differences = []
    for grid in grids:
        if grid.values not in intended:
            continue
        apart = np.abs(np.rint((given[grid.values] - intended[grid.values]) / grid.scale))
        if apart.any():
            worst, share = int(apart.max()), float((apart > 0).mean())
            differences.append(LayerDifference(grid.layer, worst, share))
    return differences


@dataclass(frozen=True)
class _Grid:
    """An activation of the graph.

    Attributes:
        values: name of the tensor that its integers are dequantized to.
        scale: step of the grid.
    """

    values: str
    scale: float

    @property
    def layer(self) -> str:
        """Whose output they are."""
        return self.values.partition("_dequantized")[0]


def _outputs(
    session: Session, names: list[str], images: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    try:
        return dict(zip(names, session.outputs(images), strict=True))
    finally:
        session.close()


def _matched(
    grids: list[_Grid], given: dict[str, NDArray[np.float32]], activations: list[Activation]
) -> dict[str, NDArray[np.float32]]:
    """Each activation of the simulation, by the name of the first tensor on its grid."""
    found = {}
    for grid in grids:
        like = grid.scale, given[grid.values].shape
        for place, activation in enumerate(activations):
            if (activation.scale, activation.values.shape) == like:
                found[grid.values] = activations.pop(place).values.numpy()
                break
    return found


def _expose(artifact: Path, path: Path) -> tuple[list[_Grid], list[str]]:
    """Write the graph with its activations as further outputs; their grids, all outputs' names.

    They are outputs as they are dequantized: integers as outputs the HTP refuses in places.
    """
    try:
        model = onnx.load(artifact)
    except Exception as error:  # protobuf raises its own, and OSError
        raise TargetError(f"{artifact}: not an ONNX file: {' '.join(str(error).split())}") from None
    grids, outputs = _grids(model.graph), model.graph.output
    there = {output.name for output in outputs}
    outputs.extend(
        helper.make_tensor_value_info(grid.values, TensorProto.FLOAT, None)
        for grid in grids
        if grid.values not in there
    )
    onnx.save(model, path)
    return grids, [output.name for output in outputs]


def _grids(graph: onnx.GraphProto) -> list[_Grid]:
    """The activations of a graph, each once.

    Copies are left out: what only moves values keeps their integers. Of two quantizers in a row at
    one scale, which saturate at the bottom and the top of a narrow grid, the second counts; each
    reader has one of its own.
    """
    scales = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    values = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    found: dict[str, _Grid] = {}
    left_out: set[str] = set()
    for node in graph.node:
        scale = scales.get(node.input[1]) if node.op_type == "QuantizeLinear" else None
        name, before = node.output[0], makers.get(node.input[0] if node.input else "")
        if scale is None or scale.size != 1 or name not in values:
            continue
        found[name] = _Grid(values[name], float(scale))
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
