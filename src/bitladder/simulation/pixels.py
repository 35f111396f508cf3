"""Networks that take the pixels of an image: their normalization inside, and the pixels' own grid.

What training did to the pixels becomes a part of the network: of its first convolution where that
is exact, otherwise a convolution of 1x1 of its own, whose weights are one a channel and therefore
exact on integers with a scale a channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.errors import ModelError
from bitladder.options import Normalization
from bitladder.simulation.aimet import fix_range, input_quantizers, weight_quantizer
from bitladder.simulation.placement import input_sources
from bitladder.simulation.prepare import prepare
from bitladder.simulation.quality import device_of
from bitladder.simulation.signature import input_nodes
from bitladder.structures import Inputs

LEVELS = 255
"""Steps between the darkest and the brightest pixel."""
_NAME = "normalization"  # of the convolution
_INSIDE = "bitladder_normalization"  # key of a traced network's notes: the name it has there
_CHANNELS = (1, 3, 4)
_BYTE, _WIDE = 8, 16  # bits


def normalized(model: nn.Module, normalization: Normalization, inputs: Inputs) -> fx.GraphModule:
    """A traced copy of a network that normalizes its one image itself.

    Args:
        model: takes images that are normalized.
        normalization: what it takes them to be.
        inputs: such as it takes, of which the shapes count.

    Returns:
        Takes pixels in 0 to 1, and gives the same.

    Raises:
        ModelError: it has no image or several, or one of other channels; or it cannot be traced.
    """
    traced = prepare(model, inputs)
    places = [at for at, one in enumerate(inputs) if image_axis(one.shape[1:]) is not None]
    if len(places) != 1:
        raise ModelError(f"normalize: is for a network of one image; this one takes {len(places)}")
    axis = image_axis(inputs[places[0]].shape[1:])
    assert axis is not None
    channels = inputs[places[0]].shape[axis]
    values = normalization.of(channels)
    if values is None:
        raise ModelError(f"normalize: its numbers are not one for each of {channels} channels")
    mean, deviation = (torch.tensor(one, dtype=torch.float64) for one in values)
    node = input_nodes(traced.graph)[places[0]]
    reader = _foldable(traced, node, normalization) if axis == 1 else None
    if reader is not None:
        _fold(reader, mean, deviation, flipped=normalization.bgr)
    else:
        _insert(traced, node, mean, deviation, flipped=normalization.bgr, axis=axis)
    traced.graph.lint()
    traced.recompile()
    return traced


def stands_in(module: fx.GraphModule) -> str | None:
    """The name of the convolution that normalizes the pixels of a network, if it has one."""
    found: str | None = module.meta.get(_INSIDE)
    return found


def image_axis(shape: tuple[int, ...] | torch.Size) -> int | None:
    """The axis of a batch's channels, where items of that shape can be images; None elsewhere."""
    if len(shape) != 3:
        return None
    if shape[0] in _CHANNELS:
        return 1
    return 3 if shape[2] in _CHANNELS else None


def hold_pixels(module: fx.GraphModule, normalization: str | None, activations: int) -> None:
    """Give the quantizers of images the grid of pixels, from which no range and no width departs.

    It is that of bytes, 1/255 from 0; where activations are wider than 8 bit, one of 16 bit that
    holds the same values. The weights of a normalization that stands in the network have at least
    8 bit.

    Args:
        module: of a simulated network.
        normalization: name of the convolution that normalizes.
        activations: bits.
    """
    for quantizer in _of_images(module):
        fix_range(quantizer, *_grid(quantizer, activations))
    weight = weight_quantizer(module.get_submodule(normalization)) if normalization else None
    if weight is not None and weight.bitwidth < _BYTE:
        weight.bitwidth = _BYTE


def _grid(quantizer: Any, activations: int) -> tuple[int, bool, float, float]:
    """Bits, whether it is symmetric, and ends of a grid that holds the pixels exactly."""
    if activations <= _BYTE:
        return _BYTE, False, 0.0, 1.0
    if not quantizer.symmetric:
        return _WIDE, False, 0.0, 1.0
    step = 1 / (LEVELS * 2 ** (_WIDE - _BYTE - 1))
    return _WIDE, True, -step * 2 ** (_WIDE - 1), step * (2 ** (_WIDE - 1) - 1)


def _of_images(module: fx.GraphModule) -> Iterator[Any]:
    modules = dict(module.named_modules())
    images = {node for node in input_nodes(module.graph) if node.meta.get("image")}
    for node in module.graph.find_nodes(op="call_module"):
        places = input_quantizers(modules[str(node.target)])
        for place, source in input_sources(node, modules):
            if source in images and places.get(place) is not None:
                yield places[place]


def _foldable(
    traced: fx.GraphModule, node: fx.Node, normalization: Normalization
) -> nn.Conv2d | None:
    """The convolution that alone reads an image, where no zeros of its padding are pixels."""
    readers = list(node.users)
    if len(readers) != 1 or (reader := readers[0]).op != "call_module":
        return None
    calls = [other for other in traced.graph.nodes if other.target == reader.target]
    layer = traced.get_submodule(str(reader.target))
    if not isinstance(layer, nn.Conv2d) or len(calls) > 1 or reader.args[0] is not node:
        return None
    padded = layer.padding_mode == "zeros" and layer.padding not in ((0, 0), "valid")
    if isinstance(layer.padding, str) and layer.padding == "same":
        padded = layer.padding_mode == "zeros" and set(layer.kernel_size) != {1}
    return None if padded or (normalization.bgr and layer.groups > 1) else layer


@torch.no_grad()
def _fold(layer: nn.Conv2d, mean: Tensor, deviation: Tensor, *, flipped: bool) -> None:
    """Have a convolution read pixels in place of what they are normalized to."""
    weight = layer.weight.double()
    each = layer.in_channels // layer.groups
    outputs = torch.arange(layer.out_channels, device=weight.device)
    group = outputs // (layer.out_channels // layer.groups)
    channel = group[:, None] * each + torch.arange(each, device=weight.device)
    mean, deviation = (one.to(weight.device)[channel][..., None, None] for one in (mean, deviation))
    scaled = weight / deviation
    shift = (scaled * mean).sum((1, 2, 3))
    bias = -shift if layer.bias is None else layer.bias.double() - shift
    own = layer.weight
    trained = own.requires_grad
    layer.weight = nn.Parameter((scaled.flip(1) if flipped else scaled).to(own.dtype), trained)
    layer.bias = nn.Parameter(bias.to(own.dtype), trained)


def _insert(
    traced: fx.GraphModule,
    node: fx.Node,
    mean: Tensor,
    deviation: Tensor,
    *,
    flipped: bool,
    axis: int,
) -> None:
    """Put a convolution of 1x1 behind an input."""
    channels = len(mean)
    layer = nn.Conv2d(channels, channels, 1, groups=1 if flipped else channels)
    weight = torch.diag(1 / deviation).flip(1) if flipped else (1 / deviation)[:, None]
    layer.weight = nn.Parameter(weight[..., None, None].float(), requires_grad=False)
    layer.bias = nn.Parameter((-mean / deviation).float(), requires_grad=False)
    name = _NAME
    while hasattr(traced, name):
        name += "_"
    traced.add_submodule(name, layer.to(device_of(traced)).eval())
    traced.meta[_INSIDE] = name
    users = list(node.users)
    with traced.graph.inserting_after(node):
        made = traced.graph.call_module(name, (node,))
    if axis != 1:
        with traced.graph.inserting_before(made):
            first = traced.graph.call_method("permute", (node, 0, 3, 1, 2))
        made.args = (first,)
        with traced.graph.inserting_after(made):
            made = traced.graph.call_method("permute", (made, 0, 2, 3, 1))
    for user in users:
        user.replace_input_with(node, made)
    for one in traced.graph.nodes:
        one.meta.setdefault("kind", "tensor")
