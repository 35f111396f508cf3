"""Join recordings of a network on different numbers of images to one graph with a free batch."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

BATCHES = (2, 3, 5)
"""Numbers of images that a network is recorded on."""
LINE = "line"
"""Key of a node's meta: where it stands in the user's code, in words."""
_OTHERWISE = "it does something else for another number of images"


class RecordingError(Exception):
    """A network cannot be recorded; the text says what of it."""


class Joined:
    """One graph of recordings with different numbers of images.

    Args:
        model: what was recorded; constants that its forward makes become its attributes.
        graphs: of each number of images in ``BATCHES``; the first is changed.
        constants: by name, those that each of them reads.
    """

    def __init__(
        self, model: nn.Module, graphs: list[fx.Graph], constants: list[dict[str, Tensor]]
    ) -> None:
        self.model, self.graphs, self.constants = model, graphs, constants
        self.graph = graphs[0]
        self._twins: list[dict[fx.Node, fx.Node]] = [{} for _ in graphs]
        self._batch: fx.Node | None = None
        self._at: tuple[fx.Node, ...] = ()

    def join(self) -> fx.GraphModule:
        """The traced network, for any number of images.

        Raises:
            RecordingError: it does something else for another number of images.
        """
        lines = [list(graph.nodes) for graph in self.graphs]
        for nodes in zip(*lines, strict=False):
            node, *others = self._at = nodes
            for twins, other in zip(self._twins[1:], others, strict=True):
                twins[other] = node
            if node.op == "get_attr":
                self._constant(node, [str(other.target) for other in nodes])
                continue
            if any((one.op, one.target) != (node.op, node.target) for one in others):
                raise self._error(_OTHERWISE)
            with self.graph.inserting_before(node):
                node.args = self._same([one.args for one in nodes])
                node.kwargs = self._same([one.kwargs for one in nodes])
        if len({len(line) for line in lines}) > 1:
            raise self._error(_OTHERWISE)
        self.graph.lint()
        return fx.GraphModule(self.model, self.graph)

    def _error(self, reason: str) -> RecordingError:
        return RecordingError(f"{reason}{self._at[-1].meta.get(LINE, '')}")

    def _constant(self, node: fx.Node, names: list[str]) -> None:
        """A parameter; or a tensor that forward makes, with as many equal rows as images."""
        name = names[0]
        if name not in self.constants[0]:
            if any(other != name for other in names):
                raise self._error(_OTHERWISE)
            return
        made = [own[other] for own, other in zip(self.constants, names, strict=True)]
        first = made[0]
        grown = [axis for axis in range(first.dim()) if len({t.shape[axis] for t in made}) > 1]
        rows = made
        for axis in grown:
            rows = [value.narrow(axis, 0, 1) for value in rows]
        same = all(torch.equal(row, rows[0]) for row in rows)
        if not same or not all(
            torch.equal(value, row.expand_as(value)) for value, row in zip(made, rows, strict=True)
        ):
            raise self._error("it makes a tensor that differs from run to run or by image")
        setattr(self.model, name, rows[0].clone() if grown else first)
        if not grown:
            return
        with self.graph.inserting_after(node):
            spread = self.graph.call_method("expand", ())
        node.replace_all_uses_with(spread)
        with self.graph.inserting_before(spread):
            sizes = [self._same([value.shape[axis] for value in made]) for axis in
                     range(first.dim())]  # fmt: skip
        spread.args = (node, *sizes)
        self._twins[0][node] = spread

    def _same(self, values: list[Any]) -> Any:
        """What all runs have; a number that grows with the batch as a node."""
        first = values[0]
        if isinstance(first, fx.Node):
            found = [twins.get(v, v) for twins, v in zip(self._twins[1:], values[1:], strict=True)]
            if any(self._twins[0].get(one, one) is not self._twins[0].get(first, first)
                   for one in found):  # fmt: skip
                raise self._error(_OTHERWISE)
            return first
        if isinstance(first, list | tuple) and len({len(value) for value in values}) == 1:
            parts = [self._same(list(parts)) for parts in zip(*values, strict=True)]
            return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
        if isinstance(first, dict):
            return {key: self._same([value[key] for value in values]) for key in first}
        if isinstance(first, slice):
            return slice(*(self._same([getattr(value, end) for value in values])
                           for end in ("start", "stop", "step")))  # fmt: skip
        if all(type(value) is type(first) and value == first for value in values):
            return first
        return self._grown(values)

    def _grown(self, values: list[Any]) -> fx.Node:
        """``slope batch + start``."""
        if not all(type(value) is int for value in values):
            raise self._error("it computes with a number that differs by the number of images")
        slope = (values[1] - values[0]) // (BATCHES[1] - BATCHES[0])
        start = values[0] - slope * BATCHES[0]
        if any(slope * n + start != value for n, value in zip(BATCHES, values, strict=True)):
            raise self._error("it computes with a number that is no multiple of the batch")
        if self._batch is None:
            placeholders = self.graph.find_nodes(op="placeholder")
            with self.graph.inserting_after(placeholders[-1]):
                self._batch = self.graph.call_method("size", (placeholders[0], 0))
        found: fx.Node = self._batch
        if slope != 1:
            found = self.graph.call_function(operator.mul, (found, slope))
        return self.graph.call_function(operator.add, (found, start)) if start else found
