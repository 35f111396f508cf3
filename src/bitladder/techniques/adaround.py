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
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.aimet import (
    input_quantizers,
    learned_rounding,
    output_quantizers,
    weight_quantizer,
)
from bitladder.techniques.pairs import WeightedLayer
from bitladder.techniques.registry import Context, calibration_images, register


@register(Adaround)
def adaround(options: Adaround, model: nn.Module, context: Context) -> SimulatedModel:
    """Replace the weights of a calibrated simulated network by values on their grids, in place.

    The ranges and widths are those the network has; weights without a quantizer stay, and those
    that layers share.

    Raises:
        QuantizationError: there are no calibration images.
    """
    assert isinstance(model, SimulatedModel)
    images = calibration_images(options, context)
    model.eval()
    rounded = _rounded(options, model, images, context.seed)
    layers = moved = weights = 0
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
            moved += int((learned != nearest).sum())
    share = 100 * moved / max(1, weights)
    context.notes.append(f"{share:.1f} % of the weights of {layers} layers rounded the other way")
    return model


def _rounded(
    options: Adaround, model: SimulatedModel, images: Tensor, seed: int
) -> dict[str, Tensor]:
    """State of the network whose weights AdaRound has put on the grids of ``model``."""
    simulated = copy.deepcopy(model.module)  # its graph is too deep to copy
    for layer in simulated.modules():
        for places in (input_quantizers(layer), output_quantizers(layer)):
            places.update(dict.fromkeys(places))
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return learned_rounding(
            simulated,
            model.float_network(),
            [batch.to(device) for batch in torch.split(images, options.batch_size)],
            iterations=options.iterations,
            regularization=options.regularization,
        )
