"""Quantization-aware training: the float training loop on the simulated network itself.

Gradients pass the rounding straight through (Bengio et al. 2013, arXiv 1308.3432) and reach the
ranges too (learned ranges, Jain et al. 2020, arXiv 1903.08066); the float network may teach
(Hinton et al. 2015, arXiv 1503.02531). Weights near the middle between two integers jump to and
fro; the dampening loss pulls them to the integer they are at (Nagel et al. 2022, arXiv 2203.11086,
equation 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitladder.errors import TrainingError
from bitladder.options import Finetune, TrainOptions
from bitladder.simulation import SimulatedModel, WeightedLayer, device_of
from bitladder.simulation.aimet import range_parameters, weight_quantizer
from bitladder.techniques.registry import Context, register
from bitladder.training import Tuning, fit


@register(Finetune)
def finetune(options: Finetune, model: nn.Module, context: Context) -> nn.Module:
    """Train the simulated network in place; what is returned is what was trained.

    What is frozen in the network that was given stays frozen. The notes tell what was not trained.

    Raises:
        TrainingError: the loss is not a number, or training ends at chance level.
    """
    assert isinstance(model, SimulatedModel)
    ratio = 1.0 if options.range_lr is None else options.range_lr / options.lr
    ranges = range_parameters(model)
    tuning = Tuning(
        teacher=context.reference.eval() if options.distill else None,
        distill=options.distill,
        rate=lambda name: ratio if name in ranges else 1.0,
        penalty=_dampening(model, options.dampen) if options.dampen else None,
        freeze_batch_norm=options.freeze_batch_norm,
    )
    data = context.training
    assert data is not None  # the registry has checked it
    train(model, _training(options), tuning, context, checkpoint=data.checkpoint)
    return model


def train(
    model: nn.Module,
    options: TrainOptions,
    tuning: Tuning,
    context: Context,
    *,
    checkpoint: Path | None,
) -> None:
    """Train on the context's images with targets, and note what was done.

    Raises:
        TrainingError: the loss is not a number, or training ends at chance level.
    """
    data, task = context.training, context.task
    assert data is not None  # the registry has checked both
    assert task is not None
    device = device_of(model)
    result = fit(
        model,
        data.train,
        data.validation,
        options,
        task,
        seed=context.seed,
        log_dir=data.log_dir,
        tuning=tuning,
        report=data.report or context.report,
        checkpoint=checkpoint,
        classes=data.classes,
    )
    model.to(device)  # Lightning leaves it on the CPU
    context.notes.extend(_left_alone(model, tuning))
    context.notes.append(f"{result.steps} steps at learning rate {result.lr:g}")


def _left_alone(model: nn.Module, tuning: Tuning) -> list[str]:
    """How many of a trained network's parameters were trained and why the others were not.

    Nothing where all were.
    """
    rate = tuning.rate or (lambda name: 1.0)
    reasons: dict[str, list[str]] = {}
    ranges = range_parameters(model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        reason = _why_not(parameter, rate(name), ranges.get(name))
        if reason:
            reasons.setdefault(reason, []).append(name)
    if not reasons:
        return []
    left = [name for names in reasons.values() for name in names]
    trained = sum(sizes.values()) - sum(sizes[name] for name in left)
    told = [
        f"{sum(sizes[name] for name in names)} {reason} (first: {names[0].split('module.', 1)[-1]})"
        for reason, names in reasons.items()
    ]
    return [f"{trained} of {sum(sizes.values())} parameters trained; not: {'; '.join(told)}"]


def _why_not(parameter: nn.Parameter, rate: float, end: str | None) -> str:
    """Why a parameter, perhaps an end of a range, was not trained, or nothing."""
    if not parameter.requires_grad:
        if end == "min":
            return "are lower ends of ranges, which stay at zero behind a ReLU"
        return "are frozen in the network that was given"
    if not rate:
        return "are ends of ranges, kept by range_lr 0"
    if parameter.grad is None:
        return "have no part in the output"
    return ""


def dampening_loss(layers: Iterable[Any]) -> Tensor:
    """``sum || q(w) - clip(w) ||^2`` over quantized layers; the grid gets no gradient.

    Args:
        layers: simulated layers with a weight and its quantizer.
    """
    terms = []
    for layer in layers:
        quantizer, weight = weight_quantizer(layer), layer.weight
        with torch.no_grad():
            target = quantizer(weight).as_subclass(Tensor)
            low, high = quantizer.get_min(), quantizer.get_max()
        terms.append((torch.minimum(torch.maximum(weight, low), high) - target).square().sum())
    return torch.stack(terms).sum()


def _dampening(model: SimulatedModel, weight: float) -> Callable[[float], Tensor]:
    """The loss with a weight that rises along a cosine from 0, as in the paper's section 4.1."""
    layers = [
        layer
        for layer in model.module.modules()
        if isinstance(layer, WeightedLayer) and weight_quantizer(layer) is not None
    ]
    if not layers:
        raise TrainingError("finetune.dampen: the network has no quantized weights")
    return lambda share: weight * (1 - math.cos(math.pi * share)) / 2 * dampening_loss(layers)


def _training(options: Finetune) -> TrainOptions:
    return TrainOptions(
        epochs=options.epochs,
        steps=options.steps,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
        augment=options.augment,
        lr=options.lr,
        schedule=options.schedule,
        gradient_clip=options.gradient_clip,
        early_stopping=None,
        amp="off",  # 16 bits hold neither a fine grid's scale nor all of its values
    )
