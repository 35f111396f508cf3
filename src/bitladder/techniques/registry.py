"""Which function applies which technique, and what every technique may know about its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from bitladder.errors import QuantizationError
from bitladder.options import Precision, Technique
from bitladder.simulation import SimulatedModel
from bitladder.techniques.structure import difference, structure_of

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
        QuantizationError: the technique trains and there are no labelled images, nobody registered
            its function, or it changes the structure and nobody registered a function that
            rebuilds it.
    """
    if technique.trains and context.training is None:
        raise QuantizationError(
            f"'{technique.name}' trains: it needs labelled images, not only calibration images"
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
    made = handler(technique, model, context)
    changed = difference(before, structure_of(made))
    if changed is not None:
        raise QuantizationError(
            f"'{technique.name}' changes the structure ({changed}), so that what is saved could "
            "not be loaded; mark a function that repeats this with "
            f"@bitladder.techniques.register_rebuild({type(technique).__name__})"
        )
    return made


def _registered(table: Mapping[type[Technique], Handler], technique: Technique) -> Handler | None:
    """The function of a technique, or of the nearest one that it is a kind of."""
    return next((table[kind] for kind in type(technique).__mro__ if kind in table), None)


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
        handler = _registered(_REBUILD, technique)
        if handler is not None:
            model = handler(technique, model, context)
    return model
