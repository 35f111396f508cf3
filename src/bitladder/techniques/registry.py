"""Which function applies which technique, and what every technique may know about its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from bitladder.errors import QuantizationError
from bitladder.options import Precision, Technique
from bitladder.simulation import SimulatedModel

if TYPE_CHECKING:
    from bitladder.data import Split
    from bitladder.progress import Progress

Handler = Callable[[Any, nn.Module, "Context"], nn.Module]
IntegerLogits = Callable[[SimulatedModel, Tensor], Tensor]
HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclass(frozen=True)
class TrainingData:
    """What a technique that trains needs: labelled images, and where to log.

    Attributes:
        train: labelled training images.
        validation: labelled validation images, for the curves only, or None.
        classes: number of classes.
        log_dir: folder of the TensorBoard logs.
        checkpoint: file to resume from and to write at the end of every epoch, or None.
        report: called with the progress while training, or None.
    """

    train: Split
    validation: Split | None
    classes: int
    log_dir: Path
    checkpoint: Path | None = None
    report: Callable[[Progress], None] | None = None


@dataclass
class Context:
    """What a technique may know besides the network.

    Attributes:
        precision: bits of weights and activations.
        calibration: float images (N, C, H, W) of the training split; never evaluation images.
        reference: the float network, for distillation and for comparing outputs.
        training: labelled images and how to train, or None where nobody gave any.
        integer_logits: the logits (N, classes) of images (N, C, H, W) as integer kernels compute
            them from a simulated network, or None where nobody gave it.
        seed: seed of the order of images and of everything random.
        notes: what a technique wants to say about what it did.
    """

    precision: Precision
    calibration: Tensor
    reference: nn.Module
    training: TrainingData | None = None
    integer_logits: IntegerLogits | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The input's (channels, height, width)."""
        channels, height, width = self.calibration.shape[1:]
        return channels, height, width


_APPLY: dict[type[Technique], Handler] = {}
_REBUILD: dict[type[Technique], Handler] = {}


def register(options: type[Technique]) -> Callable[[HandlerT], HandlerT]:
    """Register the function that applies a technique."""

    def decorate(handler: HandlerT) -> HandlerT:
        _APPLY[options] = handler
        return handler

    return decorate


def register_rebuild(options: type[Technique]) -> Callable[[HandlerT], HandlerT]:
    """Register the function that repeats what a technique does to the structure alone."""

    def decorate(handler: HandlerT) -> HandlerT:
        _REBUILD[options] = handler
        return handler

    return decorate


def apply(technique: Technique, model: nn.Module, context: Context) -> nn.Module:
    """Apply one technique; ``model`` may be changed in place, the result is what counts.

    Raises:
        QuantizationError: the technique trains and there are no labelled images.
    """
    if technique.trains and context.training is None:
        raise QuantizationError(
            f"'{technique.name}' trains: it needs labelled images, not only calibration images"
        )
    return _APPLY[type(technique)](technique, model, context)


def calibration_images(options: Any, context: Context) -> Tensor:
    """The first ``options.images`` calibration images.

    Raises:
        QuantizationError: there are none.
    """
    images = context.calibration[: options.images]
    if not len(images):
        raise QuantizationError(
            f"{options.name}: there are no calibration images; give at least one"
        )
    return images


def rebuild(recipe: Iterable[Technique], model: nn.Module, context: Context) -> nn.Module:
    """Repeat what a recipe does to a network's structure, so that saved weights can be loaded."""
    for technique in recipe:
        handler = _REBUILD.get(type(technique))
        if handler is not None:
            model = handler(technique, model, context)
    return model
