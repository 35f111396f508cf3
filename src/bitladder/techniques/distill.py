"""Training without labels: the simulated network learns the float network's own outputs.

The float network is run once on the calibration images; what it gives is the target (Hinton et al.
2015, arXiv 1503.02531, with soft targets alone), and gradients pass the rounding straight through
(Bengio et al. 2013, arXiv 1308.3432), into the ranges too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bitladder.data.splits import OrderedBatches
from bitladder.errors import QuantizationError
from bitladder.options import Distill, TrainOptions
from bitladder.simulation import SimulatedModel, device_of
from bitladder.simulation.aimet import range_parameters
from bitladder.simulation.quality import outputs
from bitladder.structures import Inputs, Outputs, count
from bitladder.tasks import Task
from bitladder.tasks.scores import ScoreMeter
from bitladder.tasks.task import Meter
from bitladder.techniques.registry import Context, calibration_inputs, register
from bitladder.training import Tuning, fit


@register(Distill)
def distill(options: Distill, model: nn.Module, context: Context) -> SimulatedModel:
    """Train a calibrated simulated network in place, on calibration images alone.

    Raises:
        QuantizationError: there are no calibration images, or no output has a row an image.
        TrainingError: the loss is not a number.
    """
    assert isinstance(model, SimulatedModel)
    images = _Answered(calibration_inputs(options, context), context.reference)
    _train(options, model, images, context)
    return model


def _train(options: Distill, model: SimulatedModel, images: _Answered, context: Context) -> None:
    ranges = range_parameters(model)
    ratio = 1.0 if options.range_lr is None else options.range_lr / options.lr
    device = device_of(model)
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            model,
            images,
            None,
            TrainOptions(
                steps=options.steps,
                batch_size=options.batch_size,
                lr=options.lr,
                schedule=options.schedule,
                gradient_clip=options.gradient_clip,
                early_stopping=None,
                amp="off",  # 16 bits hold neither a fine grid's scale nor all of its values
            ),
            _Following(context.task),
            seed=context.seed,
            log_dir=Path(folder),
            tuning=Tuning(rate=lambda name: ratio if name in ranges else 1.0),
            report=context.report,
        )
    model.to(device)  # Lightning leaves it on the CPU
    context.notes.append(
        f"{result.steps} steps at learning rate {result.lr:g} on {images.images} images"
    )


class _Following(Task):
    """Targets are the outputs of the float network; quality is the error that is left."""

    name = "following"
    quality = "error"
    higher_is_better = False

    def __init__(self, task: Task | None) -> None:
        self._task = task

    def check(self, outputs: Outputs, target: Any = None, *, classes: int | None = None) -> None:
        """Any will do."""

    def movable(self, target: Any, size: tuple[int, int]) -> Any:
        """See ``Task.movable``: images are taken as they are."""
        raise NotImplementedError

    def loss(self, outputs: Outputs, target: Any) -> Tensor:
        """How far outputs are from the float network's, as the task sees it."""
        made = {name: outputs[name] for name in target}
        if self._task is None:
            return Task.distill(self, made, target)
        return self._task.distill(made, target)

    def meter(self) -> Meter:
        """The loss, an image."""
        return ScoreMeter("error", lambda made, right: self.loss(made, right).reshape(1))


class _Answered:
    """Images with the float network's outputs in place of targets."""

    def __init__(self, inputs: Inputs, reference: nn.Module) -> None:
        self.inputs = inputs
        found = outputs(reference.eval(), inputs)
        self.answers = {
            name: values
            for name, values in found.items()
            if values.dim() and len(values) == count(inputs)
        }
        if not self.answers:
            raise QuantizationError("distill: the network gives no output that has a row an image")

    @property
    def images(self) -> int:
        """Number of images."""
        return count(self.inputs)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> _AnsweredBatches:
        """Batches in order, or in an order of the seed and the epoch."""
        return _AnsweredBatches(self, batch_size, shuffle_seed)


class _AnsweredBatches(OrderedBatches):
    def __init__(self, split: _Answered, batch_size: int, shuffle_seed: int | None) -> None:
        super().__init__(split.images, batch_size, shuffle_seed)
        self.split = split

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for index in self.indices():
            inputs = tuple(one[index] for one in self.split.inputs)
            answers = {name: values[index] for name, values in self.split.answers.items()}
            yield (inputs if len(inputs) > 1 else inputs[0]), answers
