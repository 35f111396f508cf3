"""Run a simulated network without the layers of Python that AIMET puts around every operation.

Each operation computes what AIMET's module of it computes, to the bit; whatever is not known here,
is observed by a hook or has weights without a range runs as AIMET's own module. A ReLU in front of
a quantizer is computed inside of the quantizer's pass over memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bitladder.simulation.aimet import (
    float_class,
    function_modules,
    input_quantizer,
    input_quantizers,
    output_quantizer,
    parameter_quantizers,
    quantized_layers,
    runs_as_usual,
)
from bitladder.simulation.signature import input_nodes

_Run: TypeAlias = Callable[..., Any]
_Watch: TypeAlias = Callable[[Any, list[Any]], None]
_HELD = "held_parameters"  # a layer's attribute: by name, what its quantizers make of them
_CEILINGS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}


class Executor:
    """Runs a traced network of AIMET's modules node by node; follows changes of the graph.

    Args:
        module: AIMET's simulated network; it keeps all state.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._steps: list[_Step] = []
        self._code: str | None = None
        self._watch: _Watch | None = None

    @contextmanager
    def watched_by(self, watch: _Watch) -> Iterator[None]:
        """Call ``watch(module, values)`` before each module runs, with what it is about to read."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Map the network's inputs to what it returns.

        Raises:
            TypeError: there are more or fewer inputs than it takes.
        """
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[attr-defined,no-untyped-call]
            return self.module(*inputs)
        self._follow()
        places = input_nodes(self.module.graph)
        if len(inputs) != len(places):
            raise TypeError(f"the network takes {len(places)} inputs, not {len(inputs)}")
        values: dict[fx.Node, Any] = dict(zip(places, inputs, strict=True))
        for step in self._steps:
            if self._watch is not None:
                step.show(values, self._watch)
            step.run(values)
        return _plain_structure(values[self._steps[-1].node])

    def run_part(self, nodes: Sequence[fx.Node], values: dict[fx.Node, Any]) -> None:
        """Run some nodes of the network's graph, in its order.

        Args:
            nodes: those to run.
            values: of all nodes that they read; gets what they make, and loses nothing.
        """
        self._follow()
        wanted = set(nodes)
        for step in self._steps:
            if step.node in wanted:
                step.run(values, keep=True)

    def _follow(self) -> None:
        if self.module.code is not self._code:
            self._steps, self._code = _compile(self.module), self.module.code


@contextmanager
def held_weights(module: nn.Module) -> Iterator[None]:
    """Quantize every weight once for all that executors run in a block without gradients.

    Args:
        module: AIMET's simulated network; its weights and their ranges stay as they are within
            the block. A weight whose range is being found is not held.
    """
    layers = quantized_layers(module)
    try:
        for layer in layers:
            layer.__dict__[_HELD] = _quantized_parameters(layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop(_HELD, None)


@torch.no_grad()
def _quantized_parameters(layer: Any) -> dict[str, Tensor]:
    return {
        name: _plain(quantizer(layer._parameters[name]))
        for name, quantizer in parameter_quantizers(layer).items()
        if quantizer is not None
        and layer._parameters.get(name) is not None
        and not _is_watched(quantizer)
        and quantizer.is_initialized()
    }


def _is_watched(module: nn.Module) -> bool:
    """Whether a hook sees what the module does, or another forward stands in for its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or "forward" in module.__dict__


class _Step:
    """One node of the graph, and the nodes whose values nothing needs after it."""

    def __init__(self, module: fx.GraphModule, node: fx.Node) -> None:
        self.node = node
        self.dead: list[fx.Node] = []
        self.flat = not node.kwargs and not any(
            isinstance(argument, list | tuple | dict | slice) for argument in node.args
        )
        self.home = _home(module, node) if node.op == "call_module" else None
        self.call = _caller(module, node)

    def show(self, values: dict[fx.Node, Any], watch: _Watch) -> None:
        if self.home is not None:
            owner, name = self.home
            watch(owner._modules[name], [values[read] for read in self.node.all_input_nodes])

    def run(self, values: dict[fx.Node, Any], *, keep: bool = False) -> None:
        node = self.node
        if node.op == "placeholder":
            return
        if self.flat:
            args = [values[a] if isinstance(a, fx.Node) else a for a in node.args]
            values[node] = self.call(*args)
        else:
            arguments, settings = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = self.call(*arguments, **settings)
        for dead in () if keep else self.dead:
            del values[dead]


def _compile(module: fx.GraphModule) -> list[_Step]:
    steps = [_Step(module, node) for node in module.graph.nodes]
    seen: set[fx.Node] = set()
    for step in reversed(steps):
        step.dead = [node for node in step.node.all_input_nodes if node not in seen]
        seen.update(step.dead)
    return steps


def _caller(module: fx.GraphModule, node: fx.Node) -> _Run:
    if node.op == "call_function":
        assert callable(node.target)
        return node.target
    if node.op == "call_method":
        name = str(node.target)
        return lambda owner, *args, **settings: getattr(owner, name)(*args, **settings)
    if node.op == "call_module":
        owner, name = _home(module, node)
        siblings = owner._modules
        return lambda *args, **settings: _run_module(siblings[name], args, settings)
    if node.op == "get_attr":
        owner, name = _home(module, node)
        return lambda: getattr(owner, name)
    return lambda value: value  # the placeholder and the output


def _home(module: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, str]:
    """The module that holds what a node names, and its name there."""
    path, _, name = str(node.target).rpartition(".")
    return module.get_submodule(path), name


def _run_module(module: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    kind: Any = type(module)
    run = _known(kind)
    if run is not None and not settings and not _is_watched(module):
        output = run(module, *args)
        if output is not NotImplemented:
            return output
    return _plain(module(*args, **settings))


@functools.cache
def _known(kind: Any) -> _Run | None:
    """How to run modules of this type, or None where only AIMET knows."""
    original = float_class(kind)
    if original is nn.Conv2d:
        return functools.partial(_run_layer, compute=_convolve)
    if original is nn.Linear:
        return functools.partial(_run_layer, compute=_multiply)
    if original in _CEILINGS:
        return functools.partial(_rectify, ceiling=_CEILINGS[original], original=original)
    if original is nn.MaxPool2d:
        return _pool
    if original is function_modules().Concat:
        return functools.partial(_concatenate, original=original)
    if original is None or not runs_as_usual(kind):
        return None
    return functools.partial(_run_original, original=original)


def _run_layer(module: Any, x: Tensor, *, compute: _Run) -> Any:
    """A convolution or linear layer between its quantizers."""
    weight, bias = _parameter(module, "weight"), _parameter(module, "bias")
    if weight is NotImplemented or bias is NotImplemented:
        return NotImplemented
    x = _quantize(input_quantizer(module), x)
    return _output(module, compute(module, x, weight, bias))


def _convolve(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = module._conv_forward(x, weight, bias)
    return y


def _multiply(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(x, weight, bias)


def _rectify(module: Any, x: Tensor, *, ceiling: float, original: type[nn.Module]) -> Any:
    quantizer = output_quantizer(module)
    if (
        hasattr(quantizer, "clip_and_quantize")
        and input_quantizer(module) is None
        and not _is_watched(quantizer)
    ):
        y = quantizer.clip_and_quantize(x, 0.0, ceiling)
        if y is not None:
            return y
    return _run_original(module, x, original=original)


def _run_original(module: Any, *args: Any, original: type[nn.Module]) -> Any:
    """The float operation between its quantizers; its parameters are not quantized."""
    if any(parameter_quantizers(module).values()):
        return NotImplemented
    inputs = input_quantizers(module)
    quantized = [_quantize(inputs.get(str(place)), value) for place, value in enumerate(args)]
    return _output(module, original.forward(module, *quantized))


def _pool(module: Any, x: Tensor) -> Any:
    """A maximum, which is the same in every memory format, and found much faster channels last."""
    plain = x.dim() == 4 and x.is_contiguous() and not module.return_indices
    if torch.is_grad_enabled() or not plain:
        return _run_original(module, x, original=nn.MaxPool2d)
    x = _quantize(input_quantizer(module), x)
    y = nn.MaxPool2d.forward(module, x.contiguous(memory_format=torch.channels_last))
    return _output(module, y.contiguous())


def _concatenate(module: Any, *args: Any, original: type[nn.Module]) -> Any:
    if any(input_quantizers(module).values()):
        return NotImplemented
    return _output(module, original.forward(module, *args))


def _parameter(module: Any, name: str) -> Any:
    """A weight or bias as AIMET would pass it on, or NotImplemented while it has no range."""
    value = module._parameters[name]
    quantizer = parameter_quantizers(module).get(name)
    if quantizer is None or value is None:
        return value
    if name in module.__dict__.get(_HELD, ()) and not torch.is_grad_enabled():
        return module.__dict__[_HELD][name]
    return _plain(quantizer(value)) if quantizer.is_initialized() else NotImplemented


def _output(module: Any, value: Any) -> Any:
    return _quantize(output_quantizer(module), value)


def _quantize(quantizer: Any, value: Any) -> Any:
    if quantizer is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return _plain(quantizer(value))


def _plain_structure(value: Any) -> Any:
    """What the network returns, without the types in which torch.fx keeps lists and mappings."""
    if isinstance(value, dict):
        return {key: _plain_structure(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain_structure(part) for part in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_plain_structure, value))
    return tuple(map(_plain_structure, value)) if type(value) is tuple else value


def _plain(value: Any) -> Any:
    """AIMET's tensors that carry their encoding slow every operation down."""
    plain = not isinstance(value, Tensor) or type(value) is Tensor
    return value if plain else value.as_subclass(Tensor)
