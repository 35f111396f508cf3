"""A float ONNX file and encodings of its tensors, by whomever, as one QDQ file.

Each tensor that has an encoding is put on its grid where it is made; constants become integers. The
bias of a layer whose input and weight lie on grids is int32 at the product of their scales, which
is what integer kernels add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from bitladder import target_specs
from bitladder.deploy.encodings import Encoding
from bitladder.deploy.encodings_file import UNTOLD, read_encodings
from bitladder.deploy.onnx_graph import Graph
from bitladder.deploy.pairs import TYPES, QuantizePairs
from bitladder.deploy.qdq import bias_integers, bias_scale
from bitladder.errors import ExportError, unknown
from bitladder.files import write_whole
from bitladder.outside import read_onnx
from bitladder.target_specs import TargetSpec

_WIDE_OPSET, _OPSET = 21, 13  # the first with 16-bit integers, and with a scale a channel
_LAYERS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
"""Operators with weights: the axis of the weight's channels that lead to outputs."""
_MOVES = {"DepthToSpace", "Expand", "Flatten", "Identity", "MaxPool", "Reshape", "Slice",
          "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}  # fmt: skip
"""Operators whose results lie on the grid of what they read."""
_WEIGHT, _BIAS = 1, 2  # places among their inputs


def encoded(
    model: onnx.ModelProto, encodings: Mapping[str, Encoding], *, one_sign: bool = False
) -> onnx.ModelProto:
    """The QDQ file of a float file and its encodings.

    Args:
        model: the float file; it is not changed.
        encodings: by the names of its tensors.
        one_sign: see ``QuantizePairs``.

    Raises:
        ExportError: the file has none of these tensors, an encoding does not fit its tensor, or
            the file is of an old opset that cannot be converted.
    """
    return _Encoder(_raised(model, encodings), encodings, one_sign=one_sign).write()


def write_encoded(
    artifact: Path, encodings: Path, path: Path, target: str | TargetSpec = "onnxruntime"
) -> None:
    """Write the QDQ file of a float file and its encodings, as a target reads it.

    Args:
        artifact: the float ONNX file.
        encodings: AIMET's JSON of any version, of its tensors.
        path: the file.
        target: whom it is for.

    Raises:
        ExportError: a file cannot be read or written, or they are not of each other.
        StudyError: the target is unknown.
    """
    model = read_onnx(artifact, refusal=ExportError)
    spec = target_specs.find(target)
    try:
        made = encoded(model, read_encodings(encodings), one_sign=spec.dialect.one_sign)
    except ExportError as error:
        raise ExportError(f"{artifact} with {encodings}: {error}") from None
    write_whole(path, made.SerializeToString(deterministic=True), refusal=ExportError)


class _Encoder:
    def __init__(
        self, model: onnx.ModelProto, encodings: Mapping[str, Encoding], *, one_sign: bool
    ) -> None:
        self.model, self.encodings = model, encodings
        self.grids: dict[str, Encoding] = {}  # of activations
        self.constants = {one.name: one for one in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        made = [name for node in model.graph.node for name in node.output]
        self.inputs = [one.name for one in model.graph.input if one.name not in self.constants]
        self.names = {*self.constants, *made, *self.inputs}
        self.outputs = {one.name: f"{one.name}_unrounded" for one in model.graph.output}
        self.graph = Graph(self.names)
        self.pairs = QuantizePairs(self.graph, one_sign=one_sign)

    def write(self) -> onnx.ModelProto:
        known = self.names & self.encodings.keys()
        if not known:
            first = next(iter(self.encodings), "")
            raise ExportError(
                f"the encodings are of another file: it has none of their {len(self.encodings)} "
                f"tensors, {unknown('tensor', first, sorted(self.names))}"
            )
        for name in self.inputs:
            self._leave(name, name)
        for node in self.model.graph.node:
            self._add(node)
        finished = onnx.ModelProto()
        finished.CopyFrom(self.model)
        del finished.graph.node[:], finished.graph.initializer[:], finished.graph.value_info[:]
        self._finish()
        finished.graph.node.extend(self.graph.nodes)
        read = {name for node in self.graph.nodes for name in node.input}
        kept = {**self.constants, **self.graph.tensors}
        for name in sorted(kept.keys() & read):
            tensor = finished.graph.initializer.add()
            tensor.CopyFrom(kept[name])
            tensor.name = name
        given = [one for one in self.model.graph.input if one.name in self.inputs]
        del finished.graph.input[:]
        finished.graph.input.extend(given)
        try:
            onnx.checker.check_model(finished)
        except onnx.checker.ValidationError as error:
            reason = " ".join(str(error).split())
            raise ExportError(f"the file with its encodings is none: {reason}") from None
        return finished

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant" and node.output[0] in self.constants:
            return
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            copy.input[place] = self._read(node, place) if name else ""
        for place, name in enumerate(node.output):
            if name in self.outputs and name in self.encodings:
                copy.output[place] = self.outputs[name]
        self.graph.nodes.append(copy)
        carried = self.grids.get(node.input[0]) if node.op_type in _MOVES else None
        for name, own in zip(copy.output, node.output, strict=True):
            self._leave(own, name, carried)

    def _leave(self, name: str, source: str, carried: Encoding | None = None) -> None:
        """Put what is made on its grid, or what only moved on the grid that it is on."""
        grid = self.encodings.get(name)
        if grid is None and name not in self.outputs:
            grid = carried
        if grid is None or not name:
            return
        if grid.scale.ndim:
            raise ExportError(f"'{name}': an activation with a scale a channel is not supported")
        self.grids[name] = grid
        self.pairs.put(name, source, grid)

    def _read(self, node: onnx.NodeProto, place: int) -> str:
        name = node.input[place]
        if name not in self.constants:
            return self.pairs.read(name) or name
        bias = self._bias(node) if place == _BIAS else None
        if bias is not None:
            return bias
        grid = self.encodings.get(name)
        return name if grid is None else self._constant(name, self._on_axis(grid, node, place))

    def _on_axis(self, grid: Encoding, node: onnx.NodeProto, place: int) -> Encoding:
        """The grid with the axis of its channels, which old versions do not tell."""
        if grid.axis is None:
            return grid
        axis = _channel_axis(node) if grid.axis == UNTOLD and place == _WEIGHT else grid.axis
        sizes = self.constants[node.input[place]].dims
        axis = axis % len(sizes) if axis is not None and sizes else 0
        if not sizes or sizes[axis] != grid.scale.size:
            raise ExportError(
                f"'{grid.name}' has {grid.scale.size} scales, and is {list(sizes)}: none of its "
                "axes is of so many channels"
            )
        return replace(grid, axis=axis)

    def _constant(self, name: str, grid: Encoding) -> str:
        values = numpy_helper.to_array(self.constants[name]).astype(np.float32)
        dtype = TYPES[grid.container_bits, grid.signed]
        return self._integers(name, grid.quantize(values).astype(dtype), grid.scale,
                              grid.zero_point.astype(dtype), grid.axis)  # fmt: skip

    def _bias(self, node: onnx.NodeProto) -> str | None:
        """A bias as the int32 that the kernel adds, or None where the layer is not on integers."""
        if node.op_type not in _LAYERS:
            return None
        given = self.grids.get(node.input[0])
        weight = self.encodings.get(node.input[_WEIGHT])
        if given is None or weight is None or node.input[_WEIGHT] not in self.constants:
            return None
        name = node.input[_BIAS]
        values = numpy_helper.to_array(self.constants[name]).astype(np.float32)
        own = self.encodings.get(name)
        if own is not None:  # rounded once more, as the encodings say
            spread = own.quantize(values) - own.zero_point
            values = (spread * own.scale).astype(np.float32)
        scale = bias_scale(given, weight, values.size)
        integers = bias_integers(values, scale).astype(np.int32)
        zero = np.zeros(scale.shape, np.int32)
        return self._integers(name, integers, scale, zero, 0 if scale.ndim else None)

    def _integers(
        self,
        name: str,
        integers: NDArray[np.generic],
        scale: NDArray[np.float32],
        zero_point: NDArray[np.generic],
        axis: int | None,
    ) -> str:
        """Integers of their own for each reader, and the node that dequantizes them."""
        fresh = self.graph.new_name(f"{name}_on_grid")
        held = [
            self.graph.tensor(f"{fresh}_{key}", values)
            for key, values in (
                ("integers", integers),
                ("scale", scale),
                ("zero_point", zero_point),
            )
        ]
        self.graph.add(
            "DequantizeLinear", held, [fresh], **({} if axis is None else {"axis": axis})
        )
        return fresh

    def _finish(self) -> None:
        """Let the graph's outputs be what they are after their grids."""
        for name in self.outputs:
            if name in self.encodings and name not in self.inputs:
                read = self.pairs.read(name)
                assert read is not None
                self.graph.add("Identity", [read], [name])


def _channel_axis(node: onnx.NodeProto) -> int | None:
    if node.op_type == "Gemm":
        turned = next((one.i for one in node.attribute if one.name == "transB"), 0)
        return 0 if turned else 1
    return _LAYERS.get(node.op_type)


def _raised(model: onnx.ModelProto, encodings: Mapping[str, Encoding]) -> onnx.ModelProto:
    """The model at an opset that has the integers of the encodings."""
    own = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1)
    wide = any(one.container_bits > 8 for one in encodings.values())
    needed = _WIDE_OPSET if wide else _OPSET
    if own >= needed:
        return model
    try:
        raised = version_converter.convert_version(model, needed)
    except Exception as error:  # the converter raises RuntimeError of its own
        reason = " ".join(str(error).split())
        raise ExportError(
            f"the file has opset {own}, its encodings need {needed}: {reason}"
        ) from None
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import))
    return raised
