"""Quantization-aware training: the float training loop on the simulated network itself.

Gradients pass the rounding straight through (Bengio et al. 2013, arXiv 1308.3432) and reach the
ranges too (learned ranges, Jain et al. 2020, arXiv 1903.08066); the float network may teach
(Hinton et al. 2015, arXiv 1503.02531).
"""

from __future__ import annotations

from torch import nn

from bitladder.options import Finetune, TrainOptions
from bitladder.techniques.registry import Context, register
from bitladder.training import fit


@register(Finetune)
def finetune(options: Finetune, model: nn.Module, context: Context) -> nn.Module:
    """Train the simulated network in place; what is returned is what was trained.

    Raises:
        TrainingError: the loss is not a number, or training ends at chance level.
    """
    data = context.training
    assert data is not None  # the registry has checked it
    result = fit(
        model,
        data.train,
        data.validation,
        _training(options),
        seed=data.seed,
        log_dir=data.log_dir,
        teacher=context.reference if options.distill else None,
        distill=options.distill,
        report=data.report,
        checkpoint=data.checkpoint,
        classes=data.classes,
    )
    context.notes.append(f"{result.steps} steps at learning rate {result.lr:g}")
    return model


def _training(options: Finetune) -> TrainOptions:
    return TrainOptions(
        epochs=options.epochs,
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        schedule=options.schedule,
        gradient_clip=options.gradient_clip,
        early_stopping=None,
    )
