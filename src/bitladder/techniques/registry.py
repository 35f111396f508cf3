"""Which function applies which technique, and what every technique may know about its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from bitladder import structures
from bitladder.errors import QuantizationError
from bitladder.options import Precision, Technique
from bitladder.simulation import SimulatedModel
from bitladder.structures import Inputs, Outputs, count, dtypes, first, shapes
from bitladder.tasks.task import Task
from bitladder.techniques.held_out import kept_if_better, parted
from bitladder.techniques.structure import difference, structure_of

if TYPE_CHECKING:
    from bitladder.data import Split
    from bitladder.progress import Progress

Handler = Callable[[Any, nn.Module, "Context"], nn.Module]
IntegerOutputs = Callable[[SimulatedModel, Inputs], Outputs]
TargetOutputs = Callable[[SimulatedModel, Inputs, str], Outputs]
HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclass(frozen=True)
class TrainingData:
    """What a technique that trains needs: images with targets, and where to log.

    Attributes:
        train: training images.
        validation: validation images, for the curves only, or None.
        classes: number of classes, or None in a task without any.
        log_dir: folder of the TensorBoard logs.
        checkpoint: file to resume from and to write at the end of every epoch, or None.
        report: called with the progress while training, or None.
    """

    train: Split
    validation: Split | None
    classes: int | None
    log_dir: Path
    checkpoint: Path | None = None
    report: Callable[[Progress], None] | None = None


@dataclass
class Context:
    """What a technique may know besides the network.

    Attributes:
        precision: bits of weights and activations.
        calibration: one tensor an input, of the training split; never of evaluation images.
        reference: the float network, for distillation and for comparing outputs.
        task: what the outputs mean, or None where nobody said.
        training: images with targets and how to train, or None where nobody gave any.
        integer_outputs: the outputs as integer kernels compute them from a simulated network and
            its inputs, or None where nobody gave it.
        target_outputs: the outputs of the file of a simulated network on a target, by the inputs
            and the target's name, or None where nobody gave it.
        pixels: images are pixels in 0 to 1 made from bytes, see ``SimulatedModel``.
        seed: seed of the order of images and of everything random.
        report: called with the progress of what takes long, or None.
        notes: what a technique wants to say about what it did.
    """

    precision: Precision
    calibration: Inputs
    reference: nn.Module
    task: Task | None = None
    training: TrainingData | None = None
    integer_outputs: IntegerOutputs | None = None
    target_outputs: TargetOutputs | None = None
    pixels: bool = False
    seed: int = 0
    report: Callable[[Progress], None] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one image or signal of each input, without the batch."""
        return shapes(self.calibration)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The type of each input's numbers."""
        return dtypes(self.calibration)

    def example(self, count: int) -> Inputs:
        """Random inputs of the network, see ``structures.example``."""
        return structures.example(count, self.shapes, self.dtypes)


_APPLY: dict[type[Technique], Handler] = {}
_REBUILD: dict[type[Technique], Handler] = {}


def register(options: type[Technique]) -> Callable[[HandlerT], HandlerT]:
    """Register the function that applies a technique.

    Args:
        options: its class; subclasses without a function of their own are applied likewise.
    """

    def decorate(handler: HandlerT) -> HandlerT:
        _APPLY[options] = handler
        return handler

    return decorate


def register_rebuild(options: type[Technique]) -> Callable[[HandlerT], HandlerT]:
    """Register the function that repeats what a technique does to the structure alone.

    Saved weights are loaded into what it returns. A technique without one may change values,
    ranges and widths, and nothing else.
    """

    def decorate(handler: HandlerT) -> HandlerT:
        _REBUILD[options] = handler
        return handler

    return decorate


def apply(technique: Technique, model: nn.Module, context: Context) -> nn.Module:
    """Apply one technique; ``model`` may be changed in place, the result is what counts.

    Raises:
        QuantizationError: the technique trains and there are no images with targets, or no task;
            nobody registered its function; or it changes the structure and nobody registered a
            function that rebuilds it.
    """
    if technique.trains and context.training is None:
        raise QuantizationError(
            f"'{technique.name}' trains: it needs labelled images, not only calibration images"
        )
    if technique.trains and context.task is None:
        raise QuantizationError(
            f"'{technique.name}' trains: it needs a task, such as task='classification'"
        )
    handler = _registered(_APPLY, technique)
    if handler is None:
        raise QuantizationError(
            f"'{technique.name}': no function applies it; mark one with "
            f"@bitladder.techniques.register({type(technique).__name__})"
        )
    if _registered(_REBUILD, technique) is not None:
        return handler(technique, model, context)
    before = structure_of(model)
    run = _checked if technique.checked else _unchecked
    made = run(technique, handler, model, context)
    changed = difference(before, structure_of(made))
    if changed is not None:
        raise QuantizationError(
            f"'{technique.name}' changes the structure ({changed}), so that what is saved could "
            "not be loaded; mark a function that repeats this with "
            f"@bitladder.techniques.register_rebuild({type(technique).__name__})"
        )
    return made


def _unchecked(
    technique: Technique, handler: Handler, model: nn.Module, context: Context
) -> nn.Module:
    return handler(technique, model, context)


def _checked(
    technique: Technique, handler: Handler, model: nn.Module, context: Context
) -> nn.Module:
    """Apply a technique to images that it may see, and undo it where it does harm on others."""
    assert isinstance(model, SimulatedModel)
    whole = context.calibration
    used = first(whole, getattr(technique, "images", count(whole)))
    seen, unseen = parted(used)
    context.calibration = seen
    try:
        with kept_if_better(technique.name, model, context.reference, unseen, context.notes):
            return handler(technique, model, context)
    finally:
        context.calibration = whole


def _registered(table: Mapping[type[Technique], Handler], technique: Technique) -> Handler | None:
    """The function of a technique, or of the nearest one that it is a kind of."""
    return next((table[kind] for kind in type(technique).__mro__ if kind in table), None)


def calibration_inputs(options: Any, context: Context) -> Inputs:
    """The first ``options.images`` calibration images, one tensor an input.

    Raises:
        QuantizationError: there are none.
    """
    inputs = first(context.calibration, options.images)
    if not count(inputs):
        raise QuantizationError(
            f"{options.name}: there are no calibration images; give at least one"
        )
    return inputs


def rebuild(recipe: Iterable[Technique], model: nn.Module, context: Context) -> nn.Module:
    """Repeat what a recipe does to a network's structure, so that saved weights can be loaded."""
    for technique in recipe:
        handler = _registered(_REBUILD, technique)
        if handler is not None:
            model = handler(technique, model, context)
    return model
