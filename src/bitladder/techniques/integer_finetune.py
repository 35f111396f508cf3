"""Fine-tuning on the integer arithmetic itself: its steps see the outputs that kernels compute.

The simulation's float arithmetic leaves the kernels' by a step here and there, which flips classes
where 4-bit logits tie. Here the loss is that of the integers, and its gradient is the simulation's:
with simulated outputs s and integer outputs i, ``y = s + (i - s)`` where the bracket counts as a
constant (straight through, Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bitladder.errors import QuantizationError
from bitladder.options import IntegerFinetune, TrainOptions
from bitladder.simulation import SimulatedModel
from bitladder.structures import Inputs, replaced
from bitladder.techniques.finetune import train
from bitladder.techniques.registry import Context, IntegerOutputs, register
from bitladder.training import Tuning


@register(IntegerFinetune)
def integer_finetune(options: IntegerFinetune, model: nn.Module, context: Context) -> nn.Module:
    """Train the simulated network in place; what is returned is what was trained.

    Raises:
        QuantizationError: nobody gave the integer arithmetic.
        TargetError: a layer of the network runs in float, so that there is no such arithmetic.
        TrainingError: the loss is not a number, or training ends at chance level.
    """
    assert isinstance(model, SimulatedModel)
    if context.integer_outputs is None:
        raise QuantizationError("integer_finetune: the context has no integer arithmetic; give one")
    tuning = Tuning(
        teacher=context.reference.eval() if options.distill else None, distill=options.distill
    )
    training = TrainOptions(
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        schedule=options.schedule,
        gradient_clip=options.gradient_clip,
        early_stopping=None,
        amp="off",  # as in finetune
    )
    network = IntegerForward(model, context.integer_outputs)
    train(network, training, tuning, context, checkpoint=None)  # as short as to be done again
    model.eval()
    return model


class IntegerForward(nn.Module):
    """A simulated network whose training sees the outputs of its integers.

    Args:
        simulated: the network, which is what is trained. It stays in evaluation mode, as integers
            have no dropout.
        integer_outputs: maps it and its inputs to the outputs of its integers.
    """

    def __init__(self, simulated: SimulatedModel, integer_outputs: IntegerOutputs) -> None:
        super().__init__()
        self.simulated = simulated
        self.integer_outputs = integer_outputs

    def forward(self, *inputs: Tensor) -> Any:
        """Map inputs to integer outputs in training, and to simulated ones elsewhere."""
        integers = iter(self._integers(inputs) if self.training else ())
        made = self.simulated(*inputs)
        if not self.training:
            return made
        return replaced(made, lambda output: output + (next(integers) - output).detach())

    @torch.no_grad()
    def _integers(self, inputs: Inputs) -> list[Tensor]:
        return list(self.integer_outputs(self.simulated, inputs).values())

    def train(self, mode: bool = True) -> IntegerForward:
        """Switch the gradient's forward on or off, not the network's dropout."""
        super().train(mode)
        self.simulated.eval()
        return self
