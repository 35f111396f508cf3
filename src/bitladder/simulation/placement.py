"""Where quantizers stand: none between a layer and its activation, wider ones at the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd as Convolution

_IMAGE_CHANNELS = 3
_Layer: TypeAlias = Convolution | nn.Linear


def fuse_activations(module: fx.GraphModule) -> None:
    """Take out the quantizer between a convolution or linear layer and the ReLU that follows it.

    Targets compute layer and activation as one operation with one rounding. AIMET's configs say
    so for convolutions, but its graph does not match them on depthwise ones, which would then be
    rounded twice, in two ranges where the activation is ReLU6.
    """
    modules = dict(module.named_modules())
    for node in module.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _Layer):
            continue
        users = [modules.get(str(user.target)) for user in node.users]
        activation = users[0] if len(users) == 1 else None
        if isinstance(activation, nn.ReLU | nn.ReLU6) and any(_output_quantizers(activation)):
            modules[node.target].output_quantizers[0] = None


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


def _input_quantizers(node: fx.Node, modules: dict[str, nn.Module]) -> Iterator[Any]:
    """The quantizer of a layer's input: its own, or that of the operation it comes from."""
    layer = modules[str(node.target)]
    own = [quantizer for quantizer in getattr(layer, "input_quantizers", ()) if quantizer]
    source = node.args[0]
    while not own and isinstance(source, fx.Node) and source.op == "call_module":
        own = list(_output_quantizers(modules[str(source.target)]))
        source = source.args[0] if source.args else None
    yield from own


def _output_quantizers(module: nn.Module) -> Iterator[Any]:
    for quantizer in getattr(module, "output_quantizers", ()):
        if quantizer is not None:
            yield quantizer
