"""The layers in which a target parts from the simulation, or from the graph run by operation."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitladder.deploy.qdq import QUANTIZERS
from bitladder.errors import TargetError
from bitladder.outside import read_onnx
from bitladder.simulation import Activation, SimulatedModel, activations
from bitladder.structures import Inputs
from bitladder.target_specs import TargetSpec
from bitladder.targets.session import Session, as_arrays, open_target, open_unfused

_FAR = 2.0**31  # steps, for a value that is no number on one side


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
    target: str | TargetSpec,
    inputs: Inputs,
    *,
    version: str | None = None,
    simulation: SimulatedModel | None = None,
) -> list[LayerDifference]:
    """Every layer of a QDQ graph whose integers differ, in the order of the graph.

    The target runs the graph with all activations as outputs. They are compared with those of the
    simulation's quantizers; the file says which tensor holds what each of them made. Without a
    simulation, or for a file that does not say so, they are compared with the graph's own where
    every operation runs by itself, in float between its quantizers.

    Args:
        artifact: a QDQ ONNX file.
        target: the target, or its name.
        inputs: one tensor an input.
        version: of the HTP.
        simulation: the network that the file was written from.

    Raises:
        TargetError: the target refuses the file with all its layers as outputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        model = _loaded(artifact)
        held = _held(model)
        grids = _grids(model.graph, set(held) or None)
        _expose(model, grids, path)
        given = _outputs(open_target(target, path, version=version), inputs)
        if simulation is None or not held:
            intended = _outputs(open_unfused(path), inputs)
        else:
            intended = _simulated(held, activations(simulation, inputs))
    differences = []
    for grid in grids:
        if grid.values not in intended:
            continue
        both = given[grid.values], intended[grid.values]
        apart = np.abs(np.rint((both[0] - both[1]) / grid.scale))
        apart[np.isnan(both[0]) & np.isnan(both[1])] = 0  # no numbers in both
        apart = np.nan_to_num(apart, nan=_FAR, posinf=_FAR)
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


def _outputs(session: Session, inputs: Inputs) -> dict[str, NDArray[Any]]:
    try:
        return session.run(*as_arrays(inputs))
    finally:
        session.close()


def _loaded(artifact: Path) -> onnx.ModelProto:
    return read_onnx(artifact, refusal=TargetError)


def _held(model: onnx.ModelProto) -> dict[str, str]:
    """The quantizer whose values a tensor holds, by the tensor, as the file says."""
    told = {entry.key: entry.value for entry in model.metadata_props}
    found: dict[str, str] = json.loads(told.get(QUANTIZERS, "{}"))
    return {tensor: quantizer for quantizer, tensor in found.items()}


def _simulated(held: dict[str, str], activations: list[Activation]) -> dict[str, NDArray[Any]]:
    """What the simulation made of each tensor."""
    made: dict[str, NDArray[Any]] = {}
    for activation in activations:
        made.setdefault(activation.quantizer, activation.values.numpy())
    return {tensor: made[quantizer] for tensor, quantizer in held.items() if quantizer in made}


def _expose(model: onnx.ModelProto, grids: list[_Grid], path: Path) -> None:
    """Write the graph with its activations as further outputs.

    They are outputs as they are dequantized: integers as outputs the HTP refuses in places.
    """
    outputs = model.graph.output
    there = {output.name for output in outputs}
    outputs.extend(
        helper.make_tensor_value_info(grid.values, TensorProto.FLOAT, None)
        for grid in grids
        if grid.values not in there
    )
    onnx.save(model, path)


def _grids(graph: onnx.GraphProto, wanted: set[str] | None) -> list[_Grid]:
    """The activations of a graph in its order, all of them or those that are wanted."""
    scales = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    integers = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    found = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in integers:
            continue
        scale = scales.get(node.input[1])
        if scale is None or scale.size != 1 or node.output[0].endswith("_bottom"):
            continue
        if wanted is None or node.output[0] in wanted:
            found.append(_Grid(node.output[0], float(scale)))
    return found
