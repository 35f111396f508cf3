"""Where quantizers stand: one rule from the operator table, for simulation and files alike.

What an operator computes is rounded once, to a grid of its own. A batch norm behind a layer, and
an activation that only clamps, are computed with what stands before them, so that rounding comes
after them. What only moves values stays on the grid that they are on. What an operator on integers
reads without a grid is rounded as it enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, TypeAlias

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution

from bitladder.operators import Grid, grid_of, of_module, of_node
from bitladder.simulation.aimet import (
    input_quantizer,
    input_quantizers,
    is_quantized,
    output_quantizers,
    parameter_quantizers,
    weight_quantizer,
)
from bitladder.simulation.signature import output_nodes

_IMAGE_CHANNELS = 3
WeightedLayer: TypeAlias = Convolution | nn.Linear
"""A layer that multiplies its input with a weight, transposed convolutions among them."""
_Make: TypeAlias = Callable[[], nn.Module]


def place(module: fx.GraphModule, make: _Make) -> None:
    """Put quantizers where the operator table has them, and take all others off.

    Those that AIMET made stay where one belongs, with what its config says of them.

    Args:
        module: AIMET's simulated network.
        make: makes an activation quantizer where AIMET has none.
    """
    modules = dict(module.named_modules())
    for node in module.graph.find_nodes(op="call_module"):
        called = modules[str(node.target)]
        if not is_quantized(called):
            continue
        _place_parameters(node, called)
        rounded = grid_of(node, called) is Grid.OWN and _fused_with(node, modules) is None
        places = output_quantizers(called)
        for place in places:  # those after the first are states of recurrent layers
            _set(places, place, make if rounded and place == "0" else None)
    entering: dict[fx.Node, nn.Module] = {}
    for node in module.graph.find_nodes(op="call_module"):
        called = modules[str(node.target)]
        if is_quantized(called):
            _place_inputs(node, called, modules, make, entering)


def _place_parameters(node: fx.Node, called: Any) -> None:
    operator = of_node(node, called)
    weights = operator.weights if operator is not None else ()
    places = parameter_quantizers(called)
    for name in places:
        if name not in weights:
            places[name] = None


def _set(places: dict[str, Any], place: str, make: _Make | None) -> None:
    if make is None:
        places[place] = None
    elif places[place] is None:
        places[place] = make()


def _place_inputs(
    node: fx.Node,
    called: Any,
    modules: dict[str, nn.Module],
    make: _Make,
    entering: dict[fx.Node, nn.Module],
) -> None:
    """Round what an operator reads and nobody has rounded; readers of one tensor share a grid."""
    on_integers = grid_of(node, called) is Grid.OWN
    places = input_quantizers(called)
    for place in places:
        source = node.args[int(place)] if int(place) < len(node.args) else None
        wanted = (
            on_integers
            and isinstance(source, fx.Node)
            and not _is_fused(source, node, modules)
            and quantizer_of(source, modules) is None
            and _is_tensor(source, modules)
        )
        if not wanted:
            places[place] = None
            continue
        assert isinstance(source, fx.Node)
        origin = _origin(source, modules)
        if origin not in entering:
            own = places[place]
            entering[origin] = make() if own is None else own
        places[place] = entering[origin]


def input_sources(node: fx.Node, modules: dict[str, nn.Module]) -> Iterator[tuple[str, fx.Node]]:
    """The places of an operation's inputs for quantizers, each with whose values it reads.

    Args:
        node: that calls it.
        modules: of the network, by name.
    """
    for place in input_quantizers(modules[str(node.target)]):
        source = node.args[int(place)] if int(place) < len(node.args) else None
        if isinstance(source, fx.Node):
            yield place, _origin(source, modules)


def _does_nothing(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node hands a tensor on as it is when the network runs, as dropout does."""
    operator = of_node(node, modules[str(node.target)])
    return operator is not None and operator.name == "identity"


def _is_fused(source: fx.Node, reader: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node is computed with the one that reads it."""
    while source.op == "call_module" and _does_nothing(source, modules):
        before = source.args[0]
        if not isinstance(before, fx.Node):
            return False
        source = before
    return _fused_with(source, modules) is reader


def _fused_with(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The operator behind a node that is computed with it, and rounded in its place."""
    called = modules.get(str(node.target)) if node.op == "call_module" else None
    if called is None or grid_of(node, called) is not Grid.OWN:
        return None
    reader = _only_reader(node, modules)
    while reader is not None and _does_nothing(reader, modules):
        reader = _only_reader(reader, modules)
    if reader is None:
        return None
    behind = modules[str(reader.target)]
    if isinstance(called, WeightedLayer) and isinstance(behind, BatchNorm):
        return reader
    operator, own = of_node(reader, behind), of_node(node, called)
    clamps = operator is not None and operator.bounds is not None
    return reader if clamps and own is not None and own.bounds is None else None


def _only_reader(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The one operator that reads a node's output."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].op != "call_module" or node not in readers[0].args:
        return None
    return readers[0] if str(readers[0].target) in modules else None


def quantizer_of(source: Any, modules: dict[str, nn.Module]) -> Any | None:
    """The quantizer whose grid a node's output lies on, or None."""
    while isinstance(source, fx.Node) and source.op.startswith("call_"):
        called = modules.get(str(source.target)) if source.op == "call_module" else None
        found = next(_output_quantizers(called), None)
        if found is not None:
            return found
        if grid_of(source, called) is not Grid.INPUT or not source.args:
            return None
        own = input_quantizer(called)
        if own is not None:
            return own
        source = source.args[0]
    return None


def _origin(source: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """The node whose values a node only moves."""
    while source.op.startswith("call_") and source.args and isinstance(source.args[0], fx.Node):
        called = modules.get(str(source.target)) if source.op == "call_module" else None
        if grid_of(source, called) is not Grid.INPUT:
            break
        source = source.args[0]
    return source


def _is_tensor(source: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node gives real numbers in a tensor that a grid can hold."""
    if source.op == "placeholder":
        return bool(source.meta.get("floating", True))
    if source.op == "get_attr":
        return bool(attrgetter(str(source.target))(modules[""]).is_floating_point())
    called = modules.get(str(source.target)) if source.op == "call_module" else None
    if grid_of(source, called) is Grid.NONE:
        return False
    return called is not None or source.meta.get("kind", "tensor") == "tensor"


def input_grid(module: fx.GraphModule, node: fx.Node) -> Any | None:
    """The quantizer of what a layer reads first: its own, or that of where it comes from."""
    modules = dict(module.named_modules())
    own = input_quantizer(modules[str(node.target)])
    return own if own is not None else quantizer_of(node.args[0], modules)


def rectified_quantizers(module: fx.GraphModule) -> Iterator[Any]:
    """Quantizers of values that a ReLU has made, whose lowest value is zero.

    One that an operator shares with what it reads is such a quantizer where all that it reads is.
    """
    found: dict[int, Any] = {}
    others: set[int] = set()
    for layer in module.modules():
        rectifies = isinstance(layer, nn.ReLU | nn.ReLU6)
        operator = of_module(layer)
        within = operator is not None and operator.within
        for quantizer in _output_quantizers(layer):
            if rectifies:
                found[id(quantizer)] = quantizer
            elif not within:
                others.add(id(quantizer))
        others.update(map(id, input_quantizers(layer).values()))
    yield from (quantizer for key, quantizer in found.items() if key not in others)


def edge_quantizers(module: fx.GraphModule) -> Iterator[Any]:
    """Quantizers of the weights and inputs of the edge layers, and of the outputs of the last.

    Edge layers are those that read an image (at most 3 channels: the first convolution, and the
    1-to-3-channel shim before it) and the last layer before each output, as in Esser et al. 2020
    (arXiv 1902.08153), section 3.
    """
    modules = dict(module.named_modules())
    layers = [
        node
        for node in module.graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], WeightedLayer)
    ]
    last = _last_layers(module.graph, layers)
    for node in layers:
        layer: Any = modules[node.target]
        if node not in last and getattr(layer, "in_channels", None) not in range(
            1, _IMAGE_CHANNELS + 1
        ):
            continue
        weight = weight_quantizer(layer)
        if weight is not None:
            yield weight
        given = input_grid(module, node)
        if given is not None:
            yield given
    for node in last:
        yield from _output_quantizers(modules[node.target])


def _last_layers(graph: fx.Graph, layers: list[fx.Node]) -> list[fx.Node]:
    """The last layer that each output depends on."""
    found: dict[fx.Node, None] = {}
    for output in output_nodes(graph).values():
        before = {output}
        for node in reversed(graph.nodes):
            if node in before:
                before.update(node.all_input_nodes)
        reached = [layer for layer in layers if layer in before]
        found.update(dict.fromkeys(reached[-1:]))
    return list(found)


def outputs_of_quantizers(module: fx.GraphModule) -> list[tuple[Any, list[str]]]:
    """The quantizers that the network's outputs come from, each with the names of its outputs."""
    modules = dict(module.named_modules())
    found: dict[int, tuple[Any, list[str]]] = {}
    for name, node in output_nodes(module.graph).items():
        quantizer = quantizer_of(node, modules)
        if quantizer is not None:
            found.setdefault(id(quantizer), (quantizer, []))[1].append(name)
    return list(found.values())


def _output_quantizers(module: nn.Module | None) -> Iterator[Any]:
    for quantizer in output_quantizers(module).values():
        if quantizer is not None:
            yield quantizer
