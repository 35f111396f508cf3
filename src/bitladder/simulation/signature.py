"""What a traced network takes and returns, told by the nodes of its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx

from bitladder.structures import named


def input_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The nodes of a network's inputs, in order; their targets are what it calls them."""
    return list(graph.find_nodes(op="placeholder"))


def output_nodes(graph: fx.Graph) -> dict[str, fx.Node]:
    """The nodes of a network's outputs by name; one that gives several tensors stands for all."""
    found: dict[str, fx.Node] = named(returned(graph), fx.Node)
    return {name: node for name, node in found.items() if node.meta.get("kind") != "number"}


def returned(graph: fx.Graph) -> Any:
    """What a network returns, of nodes; dataclasses, which a node makes, as dictionaries."""
    [output] = graph.find_nodes(op="output")
    return _opened(output.args[0])


def makes_dataclass(node: fx.Node) -> bool:
    """Whether a node only puts tensors into a dataclass."""
    return node.op == "call_function" and dataclasses.is_dataclass(node.target)


@contextmanager
def flat_outputs(module: fx.GraphModule) -> Iterator[None]:
    """Let a network return a tuple in place of any other structure: AIMET runs ``torch.jit``."""
    [output] = module.graph.find_nodes(op="output")
    before = output.args
    if isinstance(before[0], fx.Node) and not makes_dataclass(before[0]):
        yield
        return
    output.args = (tuple(output_nodes(module.graph).values()),)
    module.recompile()
    try:
        yield
    finally:
        output.args = before
        module.recompile()


def _opened(value: Any) -> Any:
    if isinstance(value, fx.Node):
        if not makes_dataclass(value):
            return value
        return {name: _opened(part) for name, part in value.kwargs.items()}
    if isinstance(value, dict):
        return {key: _opened(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_opened, value))
    if isinstance(value, list | tuple):
        return [_opened(part) for part in value]
    return value
