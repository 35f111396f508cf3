"""Learn which way to round each weight: AIMET's AdaRound (Nagel et al. 2020, arXiv 2004.10568).

Rounding to the nearest integer is not the rounding that keeps a layer's output: with ``h(v)`` in 0
to 1 per weight, AdaRound minimizes ``|| f(W x) - f(s clip(floor(W / s) + h(v)) x~) ||^2`` plus a
term that drives every ``h`` to 0 or 1 (equation 25), layer after layer, ``x~`` being the output of
the layers that are rounded already.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.options import Adaround
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.aimet import aimet, quiet
from bitladder.simulation.signature import flat_outputs
from bitladder.structures import Inputs, moved, split
from bitladder.techniques.pairs import Layer
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
    layers = moved = weights = 0
    with torch.no_grad():
        for name, layer in model.module.named_modules():
            if not isinstance(layer, Layer):
                continue
            quantizer: Any = layer.param_quantizers["weight"]  # type: ignore[index]
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
    options: Adaround, model: SimulatedModel, inputs: Inputs, seed: int
) -> dict[str, Tensor]:
    """State of the network whose weights AdaRound has put on the grids of ``model``."""
    package = aimet("adaround.adaround_weight")
    reference = model.sim.get_original_model(model.module)
    simulated = SimpleNamespace(model=copy.deepcopy(model.module))  # its graph is too deep to copy
    for layer in simulated.model.modules():
        for place in ("input_quantizers", "output_quantizers"):
            quantizers: Any = getattr(layer, place, ())
            for index in range(len(quantizers)):
                quantizers[index] = None
    device = device_of(model)
    batches = [moved(batch, device) for batch in split(inputs, options.batch_size)]
    parameters = package.AdaroundParameters(
        batches,
        num_batches=len(batches),
        default_num_iterations=options.iterations,
        default_reg_param=options.regularization,
        forward_fn=lambda network, batch: network(*batch),
    )
    devices = [device] if device.type == "cuda" else []
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(),
        contextlib.redirect_stderr(io.StringIO()),  # its progress bar
        flat_outputs(reference),
        flat_outputs(simulated.model),
        torch.random.fork_rng(devices),
    ):
        torch.manual_seed(seed)
        # The public entry makes a simulation of its own, with its own ranges; ours are kept.
        rounded = package.Adaround._apply_adaround(
            simulated, reference, batches[0], parameters, folder, "adaround"
        )
    state: dict[str, Tensor] = rounded.state_dict()
    return state
