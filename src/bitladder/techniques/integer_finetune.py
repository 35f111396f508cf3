"""Fine-tuning on the integer arithmetic itself: its steps see the logits that kernels compute.

The simulation's float arithmetic leaves the kernels' by a step here and there, which flips classes
where 4-bit logits tie. Here the loss is that of the integers, and its gradient is the simulation's:
with simulated logits s and integer logits i, ``y = s + (i - s)`` where the bracket counts as a
constant (straight through, Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitladder.errors import QuantizationError
from bitladder.options import IntegerFinetune, TrainOptions
from bitladder.simulation import SimulatedModel
from bitladder.techniques.finetune import train
from bitladder.techniques.registry import Context, IntegerLogits, register
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
    if context.integer_logits is None:
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
    network = IntegerForward(model, context.integer_logits)
    train(network, training, tuning, context, checkpoint=None)  # as short as to be done again
    model.eval()
    return model


class IntegerForward(nn.Module):
    """A simulated network whose training sees the logits of its integers.

    Args:
        simulated: the network, which is what is trained. It stays in evaluation mode, as integers
            have no dropout.
        integer_logits: maps it and images (N, C, H, W) to the logits (N, classes) of its integers.
    """

    def __init__(self, simulated: SimulatedModel, integer_logits: IntegerLogits) -> None:
        super().__init__()
        self.simulated = simulated
        self.integer_logits = integer_logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images to integer logits in training, and to simulated ones elsewhere."""
        integer = self._integers(images) if self.training else None
        logits: Tensor = self.simulated(images)
        return logits if integer is None else logits + (integer - logits).detach()

    @torch.no_grad()
    def _integers(self, images: Tensor) -> Tensor:
        return self.integer_logits(self.simulated, images)

    def train(self, mode: bool = True) -> IntegerForward:
        """Switch the gradient's forward on or off, not the network's dropout."""
        super().train(mode)
        self.simulated.eval()
        return self
