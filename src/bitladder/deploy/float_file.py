"""Write a simulated network as float ONNX, and note its grids as AIMET's loader reads them."""

from __future__ import annotations

from typing import Any

import onnx

from bitladder.deploy.encodings import Encoding
from bitladder.deploy.graph import INPUT, OUTPUT
from bitladder.deploy.writer import FileWriter
from bitladder.operators import Call, Operator, Value

_MOVES_FOR_AIMET = {"Col2Im", "Pad"}


class FloatWriter(FileWriter):
    """Notes the grids of a file in place of writing them."""

    def notes(self, model: onnx.ModelProto) -> dict[str, Encoding]:
        """Grids of the tensors of the model that was written.

        AIMET quantizes slopes of a PReLU by one grid and loads no others, so that those are left
        out.
        """
        grids = self.grids
        if self._last in grids:
            grids = {**grids, OUTPUT: grids[self._last]}
        there = {INPUT, *(tensor.name for tensor in model.graph.initializer)}
        there.update(*(node.output for node in model.graph.node))
        slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
        return {
            name: grid
            for name, grid in grids.items()
            if name in there and not (name in slopes and grid.axis is not None)
        }

    def _clamped(self, operator: Operator, call: Call) -> str | list[str]:
        assert operator.emit is not None
        return operator.emit(self, call)

    def _entering(self, value: Value, quantizer: Any) -> Value:
        """Note the grid where the values come from: AIMET has quantizers only there."""
        name: str | None = value.name
        while quantizer.is_initialized() and name is not None and name not in self.grids:
            self.grids[name] = self._encoding(quantizer)
            name = self._moved.get(name)
        return value

    def _carried(self, call: Call) -> Encoding | None:
        """The grid of what moves, where AIMET sees it move.

        It takes what pads, and what sums columns, for movement too, and refuses encodings behind
        one whose grid is its own. The grid of what is moved says the same.
        """
        name = call.x.name
        maker = next((node for node in reversed(self.graph.nodes) if name in node.output), None)
        own = maker is not None and maker.op_type in _MOVES_FOR_AIMET and name not in self._moved
        return None if own else self.grids.get(name)

    def _leaving(self, value: Value, source: str, encoding: Encoding) -> None:
        self.grids[value.name] = encoding

    def _regridded(self, name: str, encoding: Encoding) -> str:
        self.grids[name] = encoding
        return name

    def _parameter(self, name: str, values: Any, encoding: Encoding | None) -> str:
        if encoding is not None:
            self.grids[name] = encoding
        return super()._parameter(name, values, encoding)
