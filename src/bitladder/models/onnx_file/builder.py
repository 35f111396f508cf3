"""The graph that is made from an ONNX file, and what is known of every tensor in it.

Every call is also made on tensors without data, at two batch sizes. The dimension whose size
differs is the batch's: so a Reshape with the file's own batch written into it can be written
without.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bitladder.models.onnx_file.reading import LARGEST

MORE = 2
"""Images by which the second batch is larger than the first."""


# What the code that torch.fx writes calls by these names.
_SPOKEN_FOR = {"self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree",
               "getattr", "slice"}  # fmt: skip
_OF_GRAPH_MODULES = {"meta"}  # attributes that only an instance has
_LEAVES = ("weight", "bias", "gamma", "scale")


class CannotReadError(Exception):
    """An attribute, input or combination of an operator that no torch module stands for."""


@dataclass(frozen=True)
class Value:
    """A tensor of the file: a constant, or what a node of the graph gives.

    Attributes:
        name: in the file.
        array: its values if it is a constant.
        node: what gives it otherwise.
        results: what the node gives at the first and at the second batch size, without data.
        parts: the tensors of a sequence, which has neither values nor a node of its own.
    """

    name: str
    array: NDArray[Any] | None = None
    node: fx.Node | None = None
    results: tuple[Any, Any] = (None, None)
    parts: tuple[Value, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its shape at the file's batch."""
        if self.array is not None:
            return tuple(self.array.shape)
        return tuple(int(size) for size in self.results[0].shape)

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.sizes)

    @property
    def batch(self) -> int | None:
        """The dimension that the batch is in, if there is one."""
        if self.array is not None:
            return None
        pairs = zip(self.results[0].shape, self.results[1].shape, strict=True)
        found = [axis for axis, (first, second) in enumerate(pairs) if first != second]
        if len(found) > 1:
            raise CannotReadError(f"batch in {len(found)} dimensions of '{self.name}'")
        return found[0] if found else None

    @property
    def dtype(self) -> torch.dtype:
        """Its type."""
        if self.array is not None:
            return torch.from_numpy(np.empty(0, self.array.dtype)).dtype
        found: torch.dtype = self.results[0].dtype
        return found

    def constant(self, what: str) -> NDArray[Any]:
        """Its values, which must be known.

        Raises:
            CannotReadError: they are computed from the inputs.
        """
        if self.array is None:
            raise CannotReadError(f"{what} that is computed from the inputs")
        return self.array

    def numbers(self, what: str) -> list[int]:
        """Its values as a list of whole numbers."""
        return [int(value) for value in self.constant(what).reshape(-1)]


class Call:
    """One node of the file, its inputs looked up and its attributes read."""

    def __init__(
        self,
        proto: onnx.NodeProto,
        inputs: list[Value | None],
        opset: int,
        bias: Value | None = None,
        read: Container[str] | None = None,
    ) -> None:
        self.proto, self.inputs, self.opset = proto, inputs, opset
        self.bias = bias  # what the file adds to a product behind it
        self.read = read  # names that something reads; all of them if None
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    @property
    def kind(self) -> str:
        """The operator, behind its domain where that is not ONNX's own."""
        return kind_of(self.proto)

    def uses(self, place: int) -> bool:
        """Whether anything reads an output; older files name also those that nothing does."""
        given = self.proto.output[place] if place < len(self.proto.output) else ""
        return bool(given) and (self.read is None or given in self.read)

    @property
    def x(self) -> Value:
        """The first input."""
        return self.need(0)

    def need(self, place: int) -> Value:
        """An input that must be there."""
        found = self.get(place)
        if found is None:
            raise CannotReadError(f"no input {place}")
        return found

    def get(self, place: int) -> Value | None:
        """An input, or None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, texts as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def axes(self, place: int = 1) -> list[int] | None:
        """Axes, an attribute in older files and an input in newer ones."""
        given = self.get(place)
        if given is not None:
            return given.numbers("axes")
        found = self.attribute("axes")
        return None if found is None else list(found)


class Builder:
    """Adds modules, functions and constants to a graph, and runs each at two batch sizes."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._attributes: dict[str, fx.Node] = {}

    def input(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Value:
        """A placeholder for images or signals of a shape without the batch."""
        node = self.graph.placeholder(self._argument(name))
        with self.fake:
            sizes = (self.batch, self.batch + MORE)
            results = tuple(torch.empty(size, *shape, dtype=dtype) for size in sizes)
        return Value(name, None, node, (results[0], results[1]))

    def module(self, call: Call, module: nn.Module, *given: Any, weight: str = "") -> Any:
        """Call a module of its own, at the place that its weight's name tells."""
        path = self._path(call, weight)
        self._place(path, module)
        node = self.graph.call_module(path, tuple(self._nodes(one) for one in given))
        return self._made(call, node, module.eval(), given, {})

    def call(self, call: Call, function: Callable[..., Any] | str, *given: Any, **kw: Any) -> Any:
        """Call a function, or a method by its name."""
        arguments = (self._nodes(given), {key: self._nodes(one) for key, one in kw.items()})
        if isinstance(function, str):
            node = self.graph.call_method(function, *arguments)
            name = function
            return self._made(call, node, lambda x, *a, **k: getattr(x, name)(*a, **k), given, kw)
        node = self.graph.call_function(function, *arguments)
        return self._made(call, node, function, given, kw)

    def constant(self, value: NDArray[Any] | np.generic, name: str = "") -> Value:
        """A constant that the file does not name."""
        return Value(name, np.asarray(value))

    def node_of(self, value: Value) -> fx.Node:
        """The node that gives a value; a constant becomes one."""
        found: fx.Node = self._nodes(value)
        return found

    def _made(
        self, call: Call, node: fx.Node, function: Callable[..., Any], given: Any, kw: Any
    ) -> Value:
        results = []
        for which in (0, 1):
            with self.fake, torch.no_grad():
                arguments = self._fakes(given, which)
                keywords = {key: self._fakes(one, which) for key, one in kw.items()}
                results.append(function(*arguments, **keywords))
        value = Value(call.proto.output[0], None, node, (results[0], results[1]))
        for one in results if isinstance(results[0], torch.Tensor) else ():
            if one.numel() > LARGEST:
                raise CannotReadError(f"a result of {one.numel()} values")
        return value

    def _fakes(self, given: Any, which: int) -> Any:
        if isinstance(given, Value):
            if given.array is not None:
                return torch.from_numpy(np.array(given.array))
            return given.results[which]
        if isinstance(given, list | tuple):
            return type(given)(self._fakes(one, which) for one in given)
        return given

    def _nodes(self, given: Any) -> Any:
        if isinstance(given, Value):
            if given.parts is not None:
                raise CannotReadError("a sequence of tensors as an input")
            return given.node if given.array is None else self._attribute(given)
        if isinstance(given, list | tuple):
            return type(given)(self._nodes(one) for one in given)
        return given

    def _attribute(self, value: Value) -> fx.Node:
        """A constant as a parameter of the network, or as a buffer if it is no real number."""
        if value.name in self._attributes:
            return self._attributes[value.name]
        assert value.array is not None
        tensor = torch.from_numpy(np.array(value.array))
        path = self._free(_words(value.name) or ["constant"])
        owner, _, own = path.rpartition(".")
        holder = self._owner(owner)
        if tensor.is_floating_point():
            holder.register_parameter(own, nn.Parameter(tensor, requires_grad=False))
        else:
            holder.register_buffer(own, tensor)
        node = self.graph.get_attr(path)
        if value.name:
            self._attributes[value.name] = node
        return node

    def _path(self, call: Call, weight: str) -> str:
        """``a.b`` for a weight called ``a.b.weight``, otherwise by the name of the node."""
        words = _words(weight)
        if len(words) > 1 and words[-1] in _LEAVES:
            wanted = words[:-1]
            if self._is_free(wanted):
                return ".".join(wanted)
        words = _words(call.proto.name.replace("/", "."))
        if len(words) > 1 and words[-1].partition("_")[0] == call.proto.op_type:
            words = words[:-1]
        return self._free(words or [call.proto.op_type.lower()])

    def _argument(self, name: str) -> str:
        """A name that an argument of Python code can have, and no other input has."""
        word = re.sub(r"\W", "_", name)
        if not word.isidentifier() or keyword.iskeyword(word) or word in _SPOKEN_FOR:
            word = f"input_{word}"
        taken = {node.target for node in self.graph.find_nodes(op="placeholder")}
        count, found = 2, word
        while found in taken:
            found, count = f"{word}_{count}", count + 1
        return found

    def _free(self, words: list[str]) -> str:
        """The path itself, or one like it, that nothing stands at."""
        if self._is_free(words):
            return ".".join(words)
        name, count = "_".join(words), 2
        if self._is_free([name]):
            return name
        while not self._is_free([f"{name}_{count}"]):
            count += 1
        return f"{name}_{count}"

    def _is_free(self, words: list[str]) -> bool:
        if hasattr(fx.GraphModule, words[0]) or words[0] in _OF_GRAPH_MODULES:
            return False
        return self._is_container(words[:-1]) and not hasattr(
            self._owner(".".join(words[:-1]), make=False) or object(), words[-1]
        )

    def _is_container(self, words: list[str]) -> bool:
        """Whether modules can be put there: what stands on the way holds modules alone."""
        place: Any = self.root
        for word in words:
            if not hasattr(place, word):
                return True
            place = getattr(place, word)
            if type(place) is not nn.Module:
                return False
        return True

    def _owner(self, path: str, make: bool = True) -> Any:
        place: Any = self.root
        for word in path.split(".") if path else ():
            if not hasattr(place, word):
                if not make:
                    return None
                place.add_module(word, nn.Module())
            place = getattr(place, word)
        return place

    def _place(self, path: str, module: nn.Module) -> None:
        owner, _, own = path.rpartition(".")
        self._owner(owner).add_module(own, module)


def _words(name: str) -> list[str]:
    """The parts of a name as attributes of modules; Python's own words cannot be attributes."""
    words = [re.sub(r"\W", "_", word) for word in name.split(".") if word]
    return [f"{word}_" if keyword.iskeyword(word) else word for word in words]


def kind_of(proto: onnx.NodeProto) -> str:
    """An operator's name, behind its domain where that is not ONNX's own."""
    own = proto.domain in ("", "ai.onnx")
    return str(proto.op_type) if own else f"{proto.domain}.{proto.op_type}"


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of a tensor of the file."""
    return np.array(numpy_helper.to_array(tensor))
