"""Find every range of a simulated network from images, as AIMET's ``compute_encodings`` does.

Operations run on the executor, not inside of AIMET's modules; what a quantizer counts and which
range it takes is AIMET's. A network with anything that only AIMET knows is left to it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from bitladder.simulation.aimet import (
    evaluation_mode,
    input_quantizer,
    input_quantizers,
    is_calibrated_as_usual,
    is_kept_from_overflow,
    is_quantizer,
    is_simple,
    let_grow,
    observing,
    output_quantizer,
    output_quantizers,
    parameter_quantizers,
    quantized_layers,
    scale_for_bias,
    scale_for_output,
    set_weight_range,
    weight_quantizer,
)
from bitladder.simulation.execute import Executor

_BIAS_STEPS = 2**31 - 2**15  # AIMET's: a little fewer than an int32 has


@torch.no_grad()
def find_ranges(sim: Any, executor: Executor, run: Callable[[], object]) -> None:
    """Set all ranges.

    Args:
        sim: AIMET's simulation of a network.
        executor: runs the same network.
        run: hands the calibration images to the executor.
    """
    layers, quantizers = _parts(sim.model)
    for quantizer in _shared(layers):
        let_grow(quantizer)
    if not _is_known(sim.model, layers, quantizers):
        sim.compute_encodings(lambda _: run())
        return
    for layer in layers:
        _set_weight_ranges(layer)
    producers = _Producers()
    with (
        evaluation_mode(sim.model),
        executor.watched_by(producers),
        ExitStack() as stack,
    ):
        for quantizer in quantizers:
            if quantizer.is_overwrite_allowed():
                stack.enter_context(observing(quantizer))
        run()
    for layer, producer in producers.items():
        _keep_from_overflow(layer, producer)


class _Producers(dict[Any, Any]):
    """For each layer with weights, the quantizer that its last input came from, or None."""

    def __call__(self, layer: Any, values: list[Any]) -> None:
        """Note it of a layer that is about to run."""
        if is_kept_from_overflow(layer):
            encoding = getattr(values[0], "encoding", None)
            self[layer] = input_quantizer(layer) if encoding is None else encoding.producer


def _parts(model: nn.Module) -> tuple[list[Any], list[Any]]:
    """AIMET's modules in a network, and the quantizers of their inputs and outputs, each once."""
    layers = quantized_layers(model)
    found: dict[Any, None] = {}
    for layer in layers:
        for places in (input_quantizers(layer), output_quantizers(layer)):
            found.update(dict.fromkeys(q for q in places.values() if q is not None))
    return layers, list(found)


def _shared(layers: list[Any]) -> list[Any]:
    """Quantizers of several outputs, such as that of a concatenation and of one of its parts."""
    every = [q for layer in layers for q in output_quantizers(layer).values() if q is not None]
    counts = Counter(map(id, every))
    return list(dict.fromkeys(q for q in every if counts[id(q)] > 1))


def _is_known(model: Any, layers: list[Any], quantizers: list[Any]) -> bool:
    """Whether AIMET would do no more than is done here."""
    nodes = model.graph.find_nodes(op="call_module")
    called = {id(model.get_submodule(str(node.target))) for node in nodes}
    weights = [q for layer in layers for q in parameter_quantizers(layer).values() if q is not None]
    own = {id(quantizer) for quantizer in (*quantizers, *weights)}
    return all(is_calibrated_as_usual(layer) and id(layer) in called for layer in layers) and all(
        id(module) in own and is_simple(module)
        for module in model.modules()
        if is_quantizer(module)
    )


def _set_weight_ranges(layer: Any) -> None:
    for name, quantizer in parameter_quantizers(layer).items():
        weight = getattr(layer, name)
        if quantizer is None or weight is None or set_weight_range(quantizer, weight):
            continue
        layer.compute_param_encodings()
        return


def _keep_from_overflow(layer: Any, producer: Any) -> None:
    """Widen a weight's scale where the bias or the requantization would not fit its integers.

    What AIMET's own protection from overflow does when it ends. That leaves out layers
    whose output an activation rounds; here their biases have to fit, too.

    Args:
        layer: a convolution or linear layer of AIMET's.
        producer: the quantizer that its input comes from.
    """
    weight, output = weight_quantizer(layer), output_quantizer(layer)
    if producer is None or weight is None:
        return
    read, kept = producer.get_encodings(), weight.get_encodings()
    if read is None or kept is None or sum(length > 1 for length in kept.scale.shape) > 1:
        return
    written = None if output is None else output.get_encodings()
    if not (weight.is_overwrite_allowed("min") and weight.is_overwrite_allowed("max")):
        return
    scale = kept.scale
    bias = torch.zeros_like(scale).flatten()
    if layer.bias is not None:
        bias = _largest(layer.bias.detach(), scale.numel())
    if scale.ndim == 0:
        bias = bias.abs().amax()
    fit = functools.partial(scale_for_bias, steps=_BIAS_STEPS)
    wide = fit(bias, read.scale, scale.flatten().squeeze()).reshape(scale.shape)
    if written is not None:
        wide = scale_for_output(read.scale, wide, written.scale)
        step = (read.scale * wide).flatten().squeeze()
        sums = torch.round(bias / step) + torch.round(written.offset * written.scale / step)
        wide = fit(sums * step, read.scale, wide.flatten().squeeze()).reshape(scale.shape)
    elif torch.equal(wide, scale):  # an activation behind the layer has the output's grid
        return
    weight.set_range((kept.offset + kept.qmin) * wide, (kept.offset + kept.qmax) * wide)


def _largest(bias: torch.Tensor, ranges: int) -> torch.Tensor:
    """The bias of largest size for each range; groups of a transposed convolution share theirs."""
    if ranges in (1, bias.numel()):
        return bias
    grouped = bias.reshape(-1, ranges)
    return grouped.gather(0, grouped.abs().argmax(0, keepdim=True))[0]
