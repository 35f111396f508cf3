"""Trace a network by running it: every call of PyTorch on real images becomes a node.

Sizes are numbers while it runs, so that any Python may compute with them. The network is run on
two, three and five images; a number that differs is a multiple of the batch, and becomes a node.
"""

from __future__ import annotations

import dataclasses
import linecache
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from bitladder.simulation.join import BATCHES, LINE, Joined, RecordingError
from bitladder.simulation.quality import device_of
from bitladder.structures import Inputs, example, first, input_names, moved

_ELSEWHERE = (str(Path(torch.__file__).parent), __file__)
# Methods that give Python a value of a tensor, on which a graph cannot depend.
_VALUES = {"__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__",
           "__array__", "item", "tolist", "numpy"}  # fmt: skip
# Functions that take only a size and a type of a tensor.
_FILLED = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
           "new_tensor"}  # fmt: skip
# What Python calls where a tensor stands on the right.
_TURNED: dict[str, Callable[..., Any]] = {
    "__rsub__": operator.sub, "__rdiv__": operator.truediv, "__rtruediv__": operator.truediv,
    "__rpow__": operator.pow, "__rfloordiv__": operator.floordiv, "__rmod__": operator.mod,
    "__rmatmul__": operator.matmul,
}  # fmt: skip
_OPERATORS: dict[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem, "__setitem__": operator.setitem,
    "__floordiv__": operator.floordiv, "__invert__": operator.invert, "__and__": operator.and_,
    "__or__": operator.or_, "__pow__": operator.pow,
}  # fmt: skip


# Methods that give the same values in the same order.
_SHAPES = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", torch.flatten,
           torch.reshape, torch.squeeze, torch.unsqueeze}  # fmt: skip


def put(x: Tensor, index: Any, value: Any) -> Tensor:
    """``x`` with ``value`` where an index points to."""
    x = x.clone()
    x[index] = value
    return x


def record(
    model: nn.Module, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[torch.dtype]
) -> fx.GraphModule:
    """Trace a network that is written for sizes, not for values.

    Args:
        model: in evaluation mode.
        shapes: of one image or signal of each input, without the batch.
        dtypes: of each input.

    Returns:
        The traced network; it takes any number of images.

    Raises:
        RecordingError: it looks at values, or does something else for another number of images.
        Exception: whatever its forward raises.
    """
    inputs = moved(example(max(BATCHES), shapes, dtypes), device_of(model))
    try:
        return _recorded(model, inputs)
    except RecordingError:  # a network that keeps what it computed at first does less from then on
        return _recorded(model, inputs)


def _recorded(model: nn.Module, inputs: Inputs) -> fx.GraphModule:
    runs = []
    for count in BATCHES:
        run = _Recorder(model)
        run.trace(first(inputs, count))
        runs.append(run)
    return Joined(model, [run.graph for run in runs], [run.constants for run in runs]).join()


class _Recorder(TorchFunctionMode):
    """Notes what is called while a network runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self.paths = {module: name for name, module in model.named_modules()}
        self._nodes: Any = WeakIdKeyDictionary()  # of tensors: node, and whether images matter
        self._sources: Any = WeakIdKeyDictionary()  # of views: what they are of, and their node
        self._held: Any = WeakIdKeyDictionary()  # of constants: version and node
        named = [*model.named_parameters(remove_duplicate=False),
                 *model.named_buffers(remove_duplicate=False)]  # fmt: skip
        self._names = {id(value): name for name, value in reversed(named)}
        self._stack: list[tuple[str, type]] = [("", type(model))]

    def trace(self, inputs: Inputs) -> None:
        """Run the network and note what it does."""
        names = input_names(self.model.forward, len(inputs))
        for name, values in zip(names, inputs, strict=True):
            self._nodes[values] = (self.graph.placeholder(name), True)
        with torch.no_grad(), _calls(self._called), self:
            result = self.model.forward(*inputs)
        self.graph.output(self._given(result))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", func))
        known = [value for value in _tensors((args, kwargs)) if self._is_known(value)]
        if not known or name in _FILLED:
            return func(*args, **kwargs)
        if name in _VALUES and any(self._depends(value) for value in known):
            raise RecordingError("it looks at values that depend on the images")
        if name == "__iter__":
            return iter(self.__torch_function__(Tensor.unbind, types, (args[0], 0)))
        given, settings = self._given(args), self._given(kwargs)
        before = {id(value): value._version for value in known}
        result = func(*args, **kwargs)
        if name == "__setitem__":
            self._node(args[0], "call_function", put, given, settings, known)
            self._changed(args[0])
            return result
        if not any(True for _ in _tensors(result)):
            return result
        if name == "__get__":
            self._node(result, "call_function", getattr, (*given, func.__self__.__name__), {},
                       known)  # fmt: skip
        elif name in _TURNED:
            self._node(result, "call_function", _TURNED[name], given[::-1], settings, known)
        elif name in _OPERATORS:
            self._node(result, "call_function", _OPERATORS[name], given, settings, known)
        elif getattr(Tensor, name, None) is func:
            self._node(result, "call_method", name, given, settings, known)
        else:
            self._node(result, "call_function", func, given, settings, known)
        for value in known:
            if value._version != before[id(value)]:
                if value is not result:
                    raise RecordingError(f"{name} changes a tensor that it does not return")
                self._changed(value)
        return result

    def _changed(self, value: Tensor) -> None:
        """Have the names that share a tensor's memory stand for what it is now."""
        node, depends = self._nodes[value]
        source = self._sources.get(value)
        if source is None:
            self._look_again(value)
            return
        owner, view = source
        name, rest = view.target, view.args[1:]
        if name is operator.getitem:
            written = self.graph.call_function(put, (self._node_of(owner), *rest, node))
        elif name in _SHAPES:
            written = self.graph.call_method("reshape", (node, tuple(owner.shape)))
        else:
            raise RecordingError("it changes in place what shares its memory with another tensor")
        self._meta(written)
        self._nodes[owner] = (written, depends or self._depends(owner))
        self._changed(owner)

    def _look_again(self, owner: Tensor) -> None:
        """Take all views of a tensor anew."""
        for value, (source, view) in list(self._sources.items()):
            if source is owner:
                again = self.graph.node_copy(view)
                again.args = (self._node_of(owner), *view.args[1:])
                self._nodes[value] = (again, self._depends(owner))
                self._look_again(value)

    def _called(self, module: nn.Module, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A module of PyTorch is one node; of others, what they call is noted."""
        path = self.paths.get(module)
        if path is None:
            return run(module, *args, **kwargs)
        leaf = type(module).__module__.startswith("torch.nn") and not isinstance(
            module, nn.Sequential
        )
        if not leaf:
            self._stack.append((path, type(module)))
            try:
                return run(module, *args, **kwargs)
            finally:
                self._stack.pop()
        given, settings = self._given(args), self._given(kwargs)
        known = [value for value in _tensors((args, kwargs)) if self._is_known(value)]
        before = [value._version for value in known]
        with torch._C.DisableTorchFunction():
            result = run(module, *args, **kwargs)
        self._node(result, "call_module", path, given, settings, known)
        for value, version in zip(known, before, strict=True):
            if value._version != version and self._depends(value):
                self._changed(value)
        return result

    def _node(
        self, result: Any, kind: str, target: Any, args: Any, kwargs: Any, known: list[Tensor]
    ) -> None:
        node = self.graph.create_node(kind, target, args, kwargs)
        self._meta(node)
        depends = any(self._depends(value) for value in known)
        self._remember(result, node, depends)
        if known and args and args[0] is self._given(known[0]):
            self._note_views(result, known[0])

    def _note_views(self, result: Any, source: Tensor) -> None:
        """Keep which results share the memory of what they were made from."""
        if isinstance(result, Tensor):
            memory = result.untyped_storage().data_ptr()
            if result is not source and memory == source.untyped_storage().data_ptr():
                self._sources[result] = (source, self._nodes[result][0])
        elif isinstance(result, list | tuple):
            for part in result:
                self._note_views(part, source)

    def _meta(self, node: fx.Node) -> None:
        node.meta["nn_module_stack"] = {path: (path, kind) for path, kind in self._stack}
        node.meta[LINE] = _users_line()

    def _remember(self, result: Any, node: fx.Node, depends: bool) -> None:
        if isinstance(result, Tensor):
            self._nodes[result] = (node, depends)
        elif isinstance(result, list | tuple):
            for place, part in enumerate(result):
                if any(True for _ in _tensors(part)):
                    chosen = self.graph.call_function(operator.getitem, (node, place))
                    self._meta(chosen)
                    self._remember(part, chosen, depends)

    def _is_known(self, value: Tensor) -> bool:
        return value in self._nodes or id(value) in self._names

    def _depends(self, value: Tensor) -> bool:
        return value in self._nodes and bool(self._nodes[value][1])

    def _given(self, value: Any) -> Any:
        """Arguments with nodes in place of tensors."""
        if isinstance(value, Tensor):
            return self._node_of(value)
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._given, value))
        if isinstance(value, list | tuple):
            return type(value)(map(self._given, value))
        if isinstance(value, dict):
            return {key: self._given(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._given, (value.start, value.stop, value.step)))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            parts = {f.name: self._given(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return self.graph.call_function(type(value), (), parts)
        return value

    def _node_of(self, value: Tensor) -> fx.Node:
        if value in self._nodes:
            found: fx.Node = self._nodes[value][0]
            return found
        version, node = self._held.get(value, (None, None))
        if node is None or version != value._version:
            name = self._names.get(id(value))
            if name is None:
                name = f"made_in_forward_{len(self.constants)}"
                self.constants[name] = value.detach().clone()
            node = self.graph.create_node("get_attr", name)
            self._meta(node)
            self._held[value] = (value._version, node)
        held: fx.Node = node
        return held


@contextmanager
def _calls(called: Callable[..., Any]) -> Iterator[None]:
    """Have every call of a module go through ``called``."""
    usual = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return called(module, usual, args, kwargs)

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = usual  # type: ignore[method-assign]


def _users_line() -> str:
    """Where the user's code stands: the deepest line outside of torch."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_ELSEWHERE):
        frame = frame.f_back
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f" (at {path}:{number}: {linecache.getline(path, number).strip()})"


def _tensors(structure: Any) -> Iterator[Tensor]:
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, list | tuple):
        for part in structure:
            yield from _tensors(part)
    elif isinstance(structure, dict):
        for part in structure.values():
            yield from _tensors(part)
