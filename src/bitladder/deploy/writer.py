"""Write a simulated network as ONNX by walking its traced graph; each operator writes itself.

Every tensor has the name of its node, so that it is known which quantizer a tensor comes from. A
file holds a grid just where the simulation has a quantizer, and where values move the grid that
they lie on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from torch import fx, nn

from bitladder.deploy.encodings import Encoding, encoding_of
from bitladder.deploy.observe import (
    Observed,
    leaves,
    onnx_type,
    output_types,
    renamed,
    replaced,
)
from bitladder.deploy.onnx_graph import Graph, described
from bitladder.errors import ExportError
from bitladder.operators import (
    Call,
    CannotWriteError,
    Grid,
    Operator,
    Value,
    function_name,
    grid_of,
    of_node,
)
from bitladder.operators.writing import Input
from bitladder.simulation import SimulatedModel
from bitladder.simulation.aimet import input_quantizers, output_quantizer, parameter_quantizers
from bitladder.simulation.signature import input_nodes, makes_dataclass, returned
from bitladder.structures import named

# Operators that take only the sizes of their results, so that sizes among their arguments may grow.
_BY_RESULT = {"reshape", "expand", "repeat"}
_BROADCASTING = {"Add", "Divide", "Multiply", "Subtract"}
_MOVES_FOR_AIMET = {"Col2Im", "Pad"}


class FileWriter:
    """Walks a network and writes float ONNX; grids are noted, and written by ``QdqWriter``.

    Args:
        simulated: a calibrated network.
        seen: what its nodes return (see ``observe``).
    """

    whole, htp = True, False

    def __init__(self, simulated: SimulatedModel, seen: Mapping[fx.Node, Observed]) -> None:
        self.simulated, self.seen = simulated, seen
        self.module: fx.GraphModule = simulated.module
        self.inputs = simulated.inputs
        self._types = output_types(simulated)
        self.graph = Graph([*self.inputs, *self._types])
        self.env: dict[fx.Node, Any] = {}
        self.grids: dict[str, Encoding] = {}  # of values and parameters, by name
        self.passed: dict[str, str] = {}  # values by the names of the quantizers they passed
        self._rounded: set[str] = set()  # values that have a grid of their own
        self.finished: dict[str, str] = {}  # outputs of the network by what they were called before
        self._aliases: dict[str, str] = {}  # values for which nothing was written
        self._names = {id(q): info.name for info, q in simulated.quantizers()}
        self._final: dict[str, str] = {}  # of the call that is written: raw names, own names
        self._call: Call | None = None
        self._at: fx.Node | None = None

    def write(self) -> onnx.ModelProto:
        """Walk the network and return the model.

        Raises:
            ExportError: an operator cannot be written; the message names all that cannot.
        """
        faults: list[str] = []
        for node in self.module.graph.nodes:
            try:
                self._visit(node)
            except CannotWriteError as fault:
                operator = self._operator(node)
                what = operator.name if operator else function_name(node)
                faults.append(f"{what} ('{node.name}'): {fault}")
                self.env[node] = self.seen[node].few
        if faults:
            raise ExportError(f"cannot write this network as ONNX: {'; '.join(faults)}")
        given = [self.seen[node].values[0] for node in input_nodes(self.module.graph)]
        types = map(onnx_type, self.simulated.dtypes)
        inputs = [
            described(name, value.sizes, value.free, kind)
            for name, value, kind in zip(self.inputs, given, types, strict=True)
        ]
        return self.graph.model(inputs, [*self._outputs()])

    # What a writer offers to operators (see ``operators.Writer``).

    def node(
        self,
        kind: str,
        inputs: Sequence[Input | None],
        *,
        outputs: int = 1,
        name: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Write a node and return the names of its outputs."""
        assert self._call is not None
        read = [self._read(value) for value in inputs]
        while read and not read[-1]:
            read.pop()
        made = [self.graph.new_name(name or f"{self._call.name}_{kind}") for _ in range(outputs)]
        self.graph.add(kind, read, made, **attributes)
        return made

    def one(self, kind: str, inputs: Sequence[Input | None], **attributes: Any) -> str:
        """Write a node of one output and return its name."""
        return self.node(kind, inputs, **attributes)[0]

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Write a constant that no grid holds."""
        assert self._call is not None
        name = self.graph.new_name(f"{self._call.name}_constant")
        return self.graph.tensor(name, np.asarray(values, dtype))

    def parameter(self, call: Call, name: str, shape: Sequence[int] | None = None) -> str | None:
        """A parameter of the call's module on its grid."""
        value = getattr(call.module, name, None)
        if value is None:
            return None
        values = value.detach().cpu().float().numpy()
        quantizer = parameter_quantizer(call.module, name)
        encoding = None if quantizer is None else encoding_of(self._own_name(name), quantizer)
        if shape is not None:
            values = values.reshape(tuple(shape))
        return self._parameter(self._own_name(name), values, encoding)

    def bias(self, call: Call) -> str | None:
        """The bias of the call's layer."""
        return self.parameter(call, "bias")

    def number(self, call: Call, value: float) -> str:
        """A Python number beside a tensor."""
        return self.constant(value)

    def is_broadcast(self, call: Call) -> bool:
        """Whether all that reads a call's result repeats it by itself, beside a tensor as large."""
        readers = [] if self._at is None else list(self._at.users)
        return bool(readers) and all(self._repeats(one, call.result) for one in readers)

    def _repeats(self, reader: fx.Node, value: Value) -> bool:
        operator = self._operator(reader)
        if operator is None or operator.name not in _BROADCASTING:
            return False
        others = [one for one in reader.all_input_nodes if one is not self._at]
        return any(
            one.sizes == value.sizes and one.free == value.free
            for other in others
            for one in self.seen[other].values[:1]
        )

    def htp_bits(self, call: Call) -> int:
        """Bits of the integers of a call's result, for the HTP; 0 for all else."""
        quantizer = _output_quantizer(call.module)
        return self._encoding(quantizer).container_bits if self.htp and quantizer is not None else 0

    def made_by(self, value: Value) -> str:
        """The ONNX operator that makes a value, or nothing where none does."""
        makers = (node for node in reversed(self.graph.nodes) if value.name in node.output)
        return next((node.op_type for node in makers), "")

    def batch(self) -> str:
        """The number of images as an int64 of shape (1,)."""
        return self.one("Shape", [self.inputs[0]], start=0, end=1)

    def moved(self, call: Call, source: Value, name: str) -> str:
        """Put an intermediate value that only moved back on the grid of where it comes from."""
        encoding = self.grids.get(source.name)
        return name if encoding is None else self._regridded(name, encoding)

    def rounded(self, call: Call, name: str) -> str:
        """Put an intermediate value on the grid of the call's output."""
        quantizer = _output_quantizer(call.module)
        if quantizer is None:
            return name
        return self._regridded(name, self._encoding(quantizer))

    # How it walks.

    def _visit(self, node: fx.Node) -> None:
        self._at = node
        seen = self.seen[node]
        if node.op == "placeholder":
            self.env[node] = replaced(seen.few, lambda v: renamed(v, str(node.target)))
            return
        if node.op == "output":
            return
        if makes_dataclass(node):
            self.env[node] = {name: self._value(part) for name, part in node.kwargs.items()}
            return
        tensors = seen.values
        if not tensors or all(value.constant is not None for value in tensors):
            self.env[node] = self._constants(node, seen)
            return
        container = self._container(node)
        if container is not None:
            self.env[node] = container
            return
        self.env[node] = self._called(node, seen)

    def _constants(self, node: fx.Node, seen: Observed) -> Any:
        """What does not depend on images: numbers, and tensors that stand in the file."""

        def held(value: Value) -> Value:
            if any(value.free):
                return self._grown_constant(node, value)
            name = str(node.target) if node.op == "get_attr" else value.name
            return Value(name, value.sizes, value.free, value.constant, value.floating)

        return replaced(seen.few, held)

    def _grown_constant(self, node: fx.Node, value: Value) -> Value:
        """Equal rows for as many images as there are."""
        assert value.constant is not None
        if value.free != (True, *[False] * (value.rank - 1)) or np.any(
            value.constant != value.constant[:1]
        ):
            raise CannotWriteError("a constant that differs from image to image")
        self._call = Call(node.name, function_name(node), None, (), {}, (value,))
        kind = value.constant.dtype if not value.floating else np.float32
        row = self.constant(value.constant[:1], kind)
        sizes = [self.batch()]
        if value.rank > 1:
            sizes.append(self.constant(value.sizes[1:], "int64"))
        shape = self.one("Concat", sizes, axis=0)
        name = self.one("Expand", [row, shape])
        return Value(name, value.sizes, value.free, None, value.floating)

    def _container(self, node: fx.Node) -> Any:
        """An element of several results, which is no operation; None otherwise."""
        if function_name(node) not in ("getitem", "getattr") or not node.args:
            return None
        source = node.args[0]
        if not isinstance(source, fx.Node):
            return None
        owner, key = self.env.get(source), node.args[1]
        if isinstance(owner, dict):
            return owner[key]
        if not isinstance(owner, list | tuple):
            return None
        named = {"values": 0, "indices": 1}  # of a maximum over a dimension
        place: Any = named.get(key) if isinstance(key, str) else key
        return None if place is None else owner[place]

    def _operator(self, node: fx.Node) -> Operator | None:
        return of_node(node, self._module(node))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _called(self, node: fx.Node, seen: Observed) -> Any:
        module, operator = self._module(node), self._operator(node)
        if operator is None or operator.emit is None:
            what = type(module).__name__ if module is not None else function_name(node)
            raise CannotWriteError(f"no operator of ONNX is known for {what}")
        if operator.name not in _BY_RESULT:
            self._refuse_growing(node)
        args = self._quantized_inputs(node, module)
        kwargs = {name: self._value(given) for name, given in node.kwargs.items()}
        results = tuple(seen.values)
        call = Call(node.name, function_name(node), module, args, kwargs, results)
        self._call, begun = call, len(self.graph.nodes)
        quantizer = _output_quantizer(module)
        encoding = None if quantizer is None else self._encoding(quantizer)
        bounds = operator.bounds(module) if operator.bounds and module is not None else None
        if bounds is not None and encoding is not None and _reaches_zero(encoding, bounds):
            encoding = encoding.within(*bounds)
            made: str | list[str] = self._clamped(operator, call)
        else:
            assert operator.emit is not None
            made = operator.emit(self, call)
        raw = [made] if isinstance(made, str) else list(made)
        if quantizer is None and grid_of(node, module) is Grid.INPUT:
            encoding = self._carried(call.x.name)
        result = self._named(seen, raw, begun)
        for value, source in zip(leaves(result), self._sources(raw), strict=True):
            if encoding is not None and value.floating:
                self._leaving(value, source, encoding)
                if quantizer is not None:
                    self._rounded.add(value.name)
                    self.passed.setdefault(self._names[id(quantizer)], value.name)
        return result

    def _named(self, seen: Observed, raw: list[str], begun: int) -> Any:
        """Give what a node made the name of the node."""
        made = {name for node in self.graph.nodes[begun:] for name in node.output}
        names = iter(raw)
        self._final = {}

        def named(value: Value) -> Value:
            source = next(names)
            if source in made and source not in self._final:
                self._final[source] = self.graph.new_name(value.name)
                self.graph.rename(source, self._final[source], begun)
            elif source not in made:  # nothing was written: what is read is what was there
                self._final[source] = self.graph.new_name(value.name)
                self._aliases[self._final[source]] = source
            return renamed(value, self._final[source])

        return replaced(seen.few, named)

    def _sources(self, raw: list[str]) -> list[str]:
        return [self._aliases.get(self._final[name], self._final[name]) for name in raw]

    def _refuse_growing(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            if not self.seen[source].same and not self.seen[source].values:
                raise CannotWriteError("a number that grows with the batch")

    def _quantized_inputs(self, node: fx.Node, module: nn.Module | None) -> tuple[Any, ...]:
        """Arguments, those on the grid of the module's input that it quantizes."""
        quantizers = input_quantizers(module)
        found = []
        for place, argument in enumerate(node.args):
            value = self._value(argument)
            quantizer = quantizers.get(str(place))
            if isinstance(value, Value) and value.floating and quantizer is not None:
                value = self._entering(value, quantizer)
            found.append(value)
        return tuple(found)

    def _read(self, value: Input | None) -> str:
        """The name that a reader of a tensor reads."""
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if value.constant is not None and not self.graph.is_made(value.name):
            kind = np.float32 if value.floating else value.constant.dtype
            self.graph.tensor(value.name, value.constant.astype(kind))
        return self._aliases.get(value.name, value.name)

    def _value(self, argument: Any) -> Any:
        """An argument of a node with what earlier nodes returned in it."""
        if isinstance(argument, fx.Node):
            return self.env[argument]
        if isinstance(argument, tuple) and hasattr(argument, "_fields"):
            return type(argument)(*map(self._value, argument))
        if isinstance(argument, list | tuple):
            return type(argument)([self._value(part) for part in argument])
        if isinstance(argument, dict):
            return {key: self._value(part) for key, part in argument.items()}
        if isinstance(argument, slice):
            return slice(*map(self._value, (argument.start, argument.stop, argument.step)))
        return argument

    def _encoding(self, quantizer: Any) -> Encoding:
        """The grid of activations that a quantizer makes, under the quantizer's name."""
        return encoding_of(self._names[id(quantizer)], quantizer)

    def _own_name(self, parameter: str) -> str:
        assert self._at is not None
        return f"{self._at.target}.{parameter}"

    # What a float file does with grids: it notes them.

    def _clamped(self, operator: Operator, call: Call) -> str | list[str]:
        """Write an operator whose grid saturates as it clamps."""
        assert operator.emit is not None
        return operator.emit(self, call)

    def _entering(self, value: Value, quantizer: Any) -> Value:
        """A value on the grid of a quantizer in front of an operator."""
        if quantizer.is_initialized() and value.name not in self.grids:
            self.grids[value.name] = self._encoding(quantizer)
        return value

    def _carried(self, name: str) -> Encoding | None:
        """The grid of a value that moves on.

        AIMET takes what pads, and what sums columns, for movement, and its loader refuses encodings
        behind one whose grid is its own; that of what is moved says the same.
        """
        maker = next((node for node in reversed(self.graph.nodes) if name in node.output), None)
        own = maker is not None and maker.op_type in _MOVES_FOR_AIMET and name in self._rounded
        return None if own else self.grids.get(name)

    def _leaving(self, value: Value, source: str, encoding: Encoding) -> None:
        """Put what an operator made on its grid."""
        self.grids[value.name] = encoding

    def _regridded(self, name: str, encoding: Encoding) -> str:
        """Put an intermediate value on a grid, and return what is read of it."""
        self.grids[name] = encoding
        return name

    def _parameter(self, name: str, values: Any, encoding: Encoding | None) -> str:
        """Write a parameter, and return what is read of it."""
        if encoding is not None:
            self.grids[name] = encoding
        return name if self.graph.is_made(name) else self.graph.tensor(name, values)

    def _outputs(self) -> Iterator[onnx.ValueInfoProto]:
        """Have the network's outputs under their names, of the types that it returns."""
        made = named(self._value(returned(self.module.graph)), Value)
        self._call = Call("output", "output", None, (), {}, tuple(made.values()))
        for name, value in made.items():
            kind = onnx_type(self._types[name])
            own = name if name not in self.inputs else self.graph.new_name(name)
            read = self._read(value) if value.floating else self.one("Cast", [value], to=kind)
            self._finish(read, own)
            yield described(own, value.sizes, value.free, kind)

    def _finish(self, read: str, name: str) -> None:
        """Have what a reader of an output would read under the output's name."""
        read = self.finished.get(read, read)
        if read in self.inputs or read in self.graph.tensors or read in self.finished.values():
            self.graph.add("Identity", [read], [name])
            if read in self.grids:
                self.grids[name] = self.grids[read]
            return
        self.graph.rename(read, name, 0)
        self.finished[read] = name
        if read in self.grids:
            self.grids[name] = self.grids.pop(read)


def _reaches_zero(encoding: Encoding, bounds: tuple[float, float]) -> bool:
    """Whether a grid that ends at the bounds still has a zero point among its integers."""
    narrow = encoding.within(*bounds)
    zero = int(encoding.zero_point) if encoding.zero_point.ndim == 0 else None
    return zero is not None and narrow.integer_min <= zero <= narrow.integer_max


def _output_quantizer(module: nn.Module | None) -> Any | None:
    found = output_quantizer(module)
    return found if found is not None and found.is_initialized() else None


def parameter_quantizer(module: Any, name: str) -> Any | None:
    """The quantizer of a module's parameter, where it has one with a range."""
    found = parameter_quantizers(module).get(name)
    return found if found is not None and found.is_initialized() else None
