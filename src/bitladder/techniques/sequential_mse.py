"""Choose weight ranges by the error they cause in a layer's output: AIMET's sequential MSE.

Layer after layer, the range of ``candidates`` scalings with the least mean squared error between
the outputs of the float and the quantized weights is kept; each layer sees the quantized weights
of those before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bitladder.options import SequentialMse
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.aimet import set_weight_ranges_in_sequence
from bitladder.structures import Inputs, count, first, fitting, moved, split
from bitladder.techniques.registry import Context, calibration_inputs, register

_BATCH = 64  # images a forward


@register(SequentialMse)
def sequential_mse(options: SequentialMse, model: nn.Module, context: Context) -> SimulatedModel:
    """Set the weight ranges of a calibrated simulated network in place; others stay.

    Raises:
        QuantizationError: there are no calibration images.
    """
    assert isinstance(model, SimulatedModel)
    inputs = calibration_inputs(options, context)
    model.eval()
    device = device_of(model)
    batches = [moved(batch, device) for batch in _alike(inputs)]
    set_weight_ranges_in_sequence(model.sim, batches, options.candidates)
    weights = [quantizer for info, quantizer in model.quantizers() if info.kind == "weight"]
    for quantizer in weights:  # AIMET froze them
        quantizer.requires_grad_(True)
        quantizer.allow_overwrite(True)  # type: ignore[operator]
    context.notes.append(f"{len(weights)} weight ranges from {count(inputs)} images")
    return model


def _alike(inputs: Inputs) -> Iterator[Inputs]:
    """The images in batches of one size, as AIMET stacks them; the few that are over stay out."""
    batches = -(-count(inputs) // fitting(inputs, _BATCH))
    size = count(inputs) // batches
    return split(first(inputs, batches * size), size)
