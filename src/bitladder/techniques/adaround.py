"""Learn which way to round each weight: AIMET's AdaRound (Nagel et al. 2020, arXiv 2004.10568).

Rounding to the nearest integer is not the rounding that keeps a layer's output: with ``h(v)`` in 0
to 1 per weight, AdaRound minimizes ``|| f(W x) - f(s clip(floor(W / s) + h(v)) x~) ||^2`` plus a
term that drives every ``h`` to 0 or 1 (equation 25), layer after layer, ``x~`` being the output of
the layers that are rounded already.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bitladder.options import Adaround
from bitladder.simulation import SimulatedModel, WeightedLayer, device_of
from bitladder.simulation.aimet import (
    input_quantizers,
    learned_rounding,
    output_quantizers,
    weight_quantizer,
)
from bitladder.simulation.signature import flat_outputs
from bitladder.structures import Inputs, moved, split
from bitladder.techniques.registry import Context, calibration_inputs, register


@register(Adaround)
def adaround(options: Adaround, model: nn.Module, context: Context) -> SimulatedModel:
    """Replace the weights of a calibrated simulated network by values on their grids, in place.

    The ranges and widths are those the network has; weights without a quantizer stay, and those
    that layers share.

    Raises:
        QuantizationError: there are no calibration images.
    """
    assert isinstance(model, SimulatedModel)
    inputs = calibration_inputs(options, context)
    model.eval()
    rounded = _rounded(options, model, inputs, context.seed)
    layers = other = weights = 0
    with torch.no_grad():
        for name, layer in model.module.named_modules():
            if not isinstance(layer, WeightedLayer):
                continue
            quantizer = weight_quantizer(layer)
            if quantizer is None:
                continue
            nearest, learned = quantizer(layer.weight), quantizer(rounded[f"{name}.weight"])
            layer.weight.copy_(learned)
            layers, weights = layers + 1, weights + nearest.numel()
            other += int((learned != nearest).sum())
    share = 100 * other / max(1, weights)
    context.notes.append(f"{share:.1f} % of the weights of {layers} layers rounded the other way")
    return model


def _rounded(
    options: Adaround, model: SimulatedModel, inputs: Inputs, seed: int
) -> dict[str, Tensor]:
    """State of the network whose weights AdaRound has put on the grids of ``model``."""
    simulated = copy.deepcopy(model.module)  # its graph is too deep to copy
    for layer in simulated.modules():
        for places in (input_quantizers(layer), output_quantizers(layer)):
            places.update(dict.fromkeys(places))
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    reference = model.float_network()
    with flat_outputs(reference), flat_outputs(simulated), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return learned_rounding(
            simulated,
            reference,
            [moved(batch, device) for batch in split(inputs, options.batch_size)],
            iterations=options.iterations,
            regularization=options.regularization,
        )
