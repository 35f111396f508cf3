"""What every node of a network returns, told from a run on two images and one on three.

A size that differs between the runs is the batch's. What does not depend on the images at all is a
constant of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx

from bitladder.deploy.onnx_graph import FEW
from bitladder.errors import ExportError
from bitladder.operators import CannotWriteError, Value, function_name
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.signature import makes_dataclass
from bitladder.structures import Inputs, moved, named

MORE = FEW + 1
"""How many more are run, to tell which sizes grow with the batch."""
# Functions that take only the size of a tensor, and fill one with a number.
_FILLED = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}


@dataclass(frozen=True, eq=False)
class Observed:
    """What a node returned.

    Attributes:
        few: of two images: a ``Value``, a Python value, or a tuple or list of them.
        same: whether every Python value in it was the same for three images.
    """

    few: Any
    same: bool

    @property
    def values(self) -> list[Value]:
        """The tensors in it, in order."""
        return list(leaves(self.few))


def leaves(structure: Any) -> Iterator[Value]:
    """The tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(structure, Value):
        yield structure
    elif isinstance(structure, list | tuple):
        for part in structure:
            yield from leaves(part)
    elif isinstance(structure, dict):
        for part in structure.values():
            yield from leaves(part)


def replaced(structure: Any, change: Callable[[Value], Value]) -> Any:
    """The same nesting with every tensor changed."""
    if isinstance(structure, Value):
        return change(structure)
    if isinstance(structure, list | tuple):
        return type(structure)([replaced(part, change) for part in structure])
    if isinstance(structure, dict):
        return {key: replaced(part, change) for key, part in structure.items()}
    return structure


def renamed(value: Value, name: str) -> Value:
    """The value under another name."""
    return Value(name, value.sizes, value.free, value.constant, value.floating)


@torch.no_grad()
def observe(module: fx.GraphModule, inputs: Inputs) -> dict[fx.Node, Observed]:
    """Run a traced network on two and three images and describe what each node returns.

    Args:
        module: in evaluation mode.
        inputs: three images or signals.
    """
    runs = []
    for count in (FEW, MORE):
        recorder = _Recorder(module)
        recorder.run(*(one[:count] for one in inputs))
        runs.append(recorder.seen)
    few, more = runs
    return {node: _observed(node.name, few[node], more[node]) for node in few}


class _Recorder(fx.Interpreter):
    """Keeps shapes of what depends on the images, and the rest as it is."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[fx.Node, Any] = {}
        self.live: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output" or makes_dataclass(n):  # they only hold what others have made
            self.seen[n] = None
            return result
        filled = function_name(n) in _FILLED and n.op != "call_module"
        if n.op == "placeholder" or (
            _has_tensor(result)
            and not filled
            and any(source in self.live for source in n.all_input_nodes)
        ):
            self.live.add(n)
        self.seen[n] = _described(result, keep=n not in self.live)
        return result


@dataclass(frozen=True)
class _Shape:
    sizes: tuple[int, ...]
    floating: bool


def _has_tensor(result: Any) -> bool:
    if isinstance(result, list | tuple):
        return any(map(_has_tensor, result))
    return isinstance(result, Tensor)


def _described(result: Any, *, keep: bool) -> Any:
    if isinstance(result, Tensor):
        if keep:
            return result.detach().as_subclass(Tensor).cpu().numpy()
        return _Shape(tuple(result.shape), result.is_floating_point())
    if isinstance(result, torch.Size):
        return tuple(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return tuple(_described(part, keep=keep) for part in result)
    if isinstance(result, list | tuple):
        return type(result)([_described(part, keep=keep) for part in result])
    if isinstance(result, dict):
        return {key: _described(part, keep=keep) for key, part in result.items()}
    return result


def _observed(name: str, few: Any, more: Any) -> Observed:
    state = {"count": 0, "same": True}

    def joined(first: Any, second: Any) -> Any:
        if isinstance(first, _Shape | np.ndarray):
            place = state["count"]
            state["count"] += 1
            return _value(name if not place else f"{name}_{place}", first, second)
        if isinstance(first, list | tuple):
            if len(first) != len(second):
                raise CannotWriteError("as many results as images")
            parts = [joined(a, b) for a, b in zip(first, second, strict=True)]
            return type(first)(parts)
        if isinstance(first, dict):
            return {key: joined(first[key], second[key]) for key in first}
        if first is not second and first != second:
            state["same"] = False
        return first

    found = joined(few, more)
    return Observed(found, bool(state["same"]))


def _value(name: str, few: Any, more: Any) -> Value:
    if isinstance(few, _Shape):
        free = tuple(a != b for a, b in zip(few.sizes, more.sizes, strict=True))
        return Value(name, few.sizes, free, None, few.floating)
    if few.shape == more.shape and np.array_equal(few, more, equal_nan=few.dtype.kind == "f"):
        free = (False,) * few.ndim
        return Value(name, few.shape, free, few, few.dtype.kind == "f")
    free = tuple(a != b for a, b in zip(few.shape, more.shape, strict=True))
    return Value(name, few.shape, free, few, few.dtype.kind == "f")


def observed(simulated: SimulatedModel) -> dict[fx.Node, Observed]:
    """What the nodes of a simulated network return.

    Raises:
        ExportError: its shapes do not follow from the number of images.
    """
    inputs = moved(simulated.example(MORE), device_of(simulated))
    try:
        return observe(simulated.module, inputs)
    except CannotWriteError as fault:
        raise ExportError(f"cannot write this network as ONNX: {fault}") from None


def onnx_type(kind: torch.dtype) -> int:
    """As ``TensorProto.DataType`` numbers it."""
    found: int = onnx.helper.np_dtype_to_tensor_dtype(torch.zeros(0, dtype=kind).numpy().dtype)
    return found


@torch.no_grad()
def output_types(simulated: SimulatedModel) -> dict[str, torch.dtype]:
    """The type of each output's numbers."""
    made = named(simulated(*moved(simulated.example(1), device_of(simulated))))
    return {name: values.dtype for name, values in made.items()}
