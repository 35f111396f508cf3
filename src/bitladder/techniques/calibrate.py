"""Begin simulation: place quantizers at the cell's precision and set their ranges."""

from __future__ import annotations

from torch import nn

from bitladder.options import Calibrate
from bitladder.simulation import SimulatedModel, notes_of, prepare
from bitladder.simulation.rewrite import unquantized
from bitladder.structures import count
from bitladder.techniques.registry import Context, calibration_inputs, register, register_rebuild


@register_rebuild(Calibrate)
def simulate(options: Calibrate, model: nn.Module, context: Context) -> SimulatedModel:
    """Build the simulated network, its ranges not set yet."""
    return SimulatedModel(
        prepare(model, context.calibration),
        context.precision,
        shapes=context.shapes,
        dtypes=context.dtypes,
        options=options,
        pixels=context.pixels,
    )


@register(Calibrate)
def calibrate(options: Calibrate, model: nn.Module, context: Context) -> SimulatedModel:
    """Build the simulated network and set its ranges from the calibration images.

    Raises:
        QuantizationError: there are no calibration images, or the network cannot be simulated.
    """
    inputs = calibration_inputs(options, context)
    simulated = simulate(options, model, context)
    simulated.calibrate(inputs, context.task)
    context.notes.append(f"ranges by {options.method} from {count(inputs)} images")
    context.notes += notes_of(simulated.module)
    if functions := unquantized(simulated.module):
        context.notes.append(f"no quantizer follows {', '.join(functions)}")
    return simulated
