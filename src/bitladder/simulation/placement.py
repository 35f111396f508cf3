"""Where quantizers stand: none between a layer and its activation, wider ones at the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution

_IMAGE_CHANNELS = 3
_Layer: TypeAlias = Convolution | nn.Linear


def fuse_operations(module: fx.GraphModule) -> None:
    """Round once after a convolution or linear layer, the batch norm behind it and its ReLU.

    Targets compute the three as one operation. AIMET's configs say so for convolutions, but its
    graph does not match them on depthwise ones, which would then be rounded twice, in two ranges
    where the activation is ReLU6.
    """
    modules = dict(module.named_modules())
    for node in module.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _Layer):
            continue
        last = _only_reader(node, modules, BatchNorm)
        if last is not None:
            modules[node.target].output_quantizers[0] = None
            norm = modules[str(last.target)]
            for name in norm.param_quantizers:
                norm.param_quantizers[name] = None
        activation = _only_reader(last or node, modules, nn.ReLU, nn.ReLU6)
        if activation is not None and any(_output_quantizers(modules[str(activation.target)])):
            modules[str((last or node).target)].output_quantizers[0] = None


def _only_reader(
    node: fx.Node, modules: dict[str, nn.Module], *kinds: type[nn.Module]
) -> fx.Node | None:
    """The one operation that reads a node's output, if it is of one of these kinds."""
    readers = list(node.users)
    if len(readers) != 1 or not isinstance(modules.get(str(readers[0].target)), kinds):
        return None
    return readers[0]


def rectified_quantizers(module: fx.GraphModule) -> Iterator[Any]:
    """Quantizers of values that a ReLU has made, whose lowest value is zero."""
    for layer in module.modules():
        if isinstance(layer, nn.ReLU | nn.ReLU6):
            yield from _output_quantizers(layer)


def edge_quantizers(module: fx.GraphModule) -> Iterator[Any]:
    """Quantizers of the weights and inputs of the edge layers, and of the logits.

    Edge layers are those that read an image (at most 3 channels: the first convolution, and the
    1-to-3-channel shim before it) and the last layer, as in Esser et al. 2020 (arXiv 1902.08153),
    section 3.
    """
    modules = dict(module.named_modules())
    layers = [
        node
        for node in module.graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], _Layer)
    ]
    for node in layers:
        layer = modules[node.target]
        if node is not layers[-1] and getattr(layer, "in_channels", None) not in range(
            1, _IMAGE_CHANNELS + 1
        ):
            continue
        yield layer.param_quantizers["weight"]
        yield from _input_quantizers(node, modules)
    if layers:
        yield from _output_quantizers(modules[layers[-1].target])


def logits_quantizer(module: fx.GraphModule) -> Any | None:
    """The quantizer that the network's output comes from, or None."""
    modules = dict(module.named_modules())
    [output] = [node for node in module.graph.nodes if node.op == "output"]
    return next(_made_by(output.args[0], modules), None)


def _input_quantizers(node: fx.Node, modules: dict[str, nn.Module]) -> Iterator[Any]:
    """The quantizer of a layer's input: its own, or that of the operation it comes from."""
    layer = modules[str(node.target)]
    own = [quantizer for quantizer in getattr(layer, "input_quantizers", ()) if quantizer]
    yield from own or _made_by(node.args[0], modules)


def _made_by(source: Any, modules: dict[str, nn.Module]) -> Iterator[Any]:
    """Quantizers of the last operation before ``source``, itself included, that has any."""
    found: list[Any] = []
    while not found and isinstance(source, fx.Node) and source.op == "call_module":
        found = list(_output_quantizers(modules[str(source.target)]))
        source = source.args[0] if source.args else None
    yield from found


def _output_quantizers(module: nn.Module) -> Iterator[Any]:
    for quantizer in getattr(module, "output_quantizers", ()):
        if quantizer is not None:
            yield quantizer
