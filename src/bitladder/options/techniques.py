"""Options of every technique, the recipes by name, and the orders that make sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from bitladder.errors import StudyError, unknown
from bitladder.options.base import Options
from bitladder.options.training import Schedule

Phase = Literal["float", "simulate", "simulated"]


class Technique(Options):
    """One step of a recipe."""

    name: ClassVar[str]
    phase: ClassVar[Phase]
    """``float`` before simulation, ``simulate`` begins it, ``simulated`` needs it."""
    trains: ClassVar[bool] = False
    """Whether it needs labelled images and a training loop."""
    after: ClassVar[str | None] = None
    """A technique that has to stand before it, or None."""


class FoldBatchNorm(Technique):
    """Fold every batch norm into the convolution or linear layer beside it."""

    name: ClassVar[str] = "fold_batch_norm"
    phase: ClassVar[Phase] = "float"


class Relu6ToRelu(Technique):
    """Replace ReLU6 by ReLU, so that scaling can pass through it."""

    name: ClassVar[str] = "relu6_to_relu"
    phase: ClassVar[Phase] = "float"


class CrossLayerEqualization(Technique):
    """Scale the channels of neighbouring layers to equal ranges; the float function is kept."""

    name: ClassVar[str] = "cross_layer_equalization"
    phase: ClassVar[Phase] = "float"
    after: ClassVar[str | None] = "fold_batch_norm"

    tolerance: float = Field(default=1e-3, gt=0)
    """Largest change of a scale at which the pairs count as equal."""


class HighBiasFold(Technique):
    """Move the part of a bias that ReLU practically always lets pass into the next layer."""

    name: ClassVar[str] = "high_bias_fold"
    phase: ClassVar[Phase] = "float"
    after: ClassVar[str | None] = "fold_batch_norm"

    deviations: float = Field(default=3.0, gt=0)
    """What lies this many standard deviations under the mean is absorbed."""
    padded: bool = False
    """Absorb into layers that pad with zeros too, which changes the values at borders."""


class Calibrate(Technique):
    """Begin simulation: place the quantizers and set their ranges from calibration images."""

    name: ClassVar[str] = "calibrate"
    phase: ClassVar[Phase] = "simulate"

    method: Literal["sqnr", "min_max", "percentile"] = "sqnr"
    """``sqnr`` maximizes signal to noise (AIMET's tf_enhanced), or plain or clipped extremes."""
    percentile: float = Field(default=99.99, gt=50, le=100)
    """Share of values kept by the percentile method, in percent."""
    images: int = Field(default=1000, ge=1)
    """Calibration images, the first of the training split."""
    config: str = "default"
    """AIMET's quantsim config: a name such as ``default`` or ``htp_v73``, or a JSON file."""


class BiasCorrection(Technique):
    """Take the mean error that quantized weights cause out of every channel's bias."""

    name: ClassVar[str] = "bias_correction"
    phase: ClassVar[Phase] = "simulated"

    method: Literal["auto", "empirical", "analytic"] = "auto"
    """``analytic`` from folded batch norms, ``empirical`` from images, or where each applies."""
    images: int = Field(default=2000, ge=1)
    """Calibration images of the empirical method, the first of the training split."""


class Finetune(Technique):
    """Quantization-aware training of the simulated network, ranges included."""

    name: ClassVar[str] = "finetune"
    phase: ClassVar[Phase] = "simulated"
    trains: ClassVar[bool] = True

    epochs: int = Field(default=1, ge=1)
    """Passes over the training images."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps in place of epochs."""
    batch_size: int = Field(default=256, ge=1)
    """Images per step."""
    lr: float = Field(default=5e-4, gt=0)
    """Adam's learning rate (the peak of the schedule)."""
    schedule: Schedule = "one_cycle"
    """How the learning rate runs."""
    gradient_clip: float = Field(default=0.5, ge=0)
    """Largest gradient norm; 0 does not clip."""
    distill: float = Field(default=1.0, ge=0, le=1)
    """Share of the loss that follows the float network's outputs; the rest follows the labels."""


TECHNIQUES: dict[str, type[Technique]] = {
    technique.name: technique
    for technique in (
        FoldBatchNorm,
        Relu6ToRelu,
        CrossLayerEqualization,
        HighBiasFold,
        Calibrate,
        BiasCorrection,
        Finetune,
    )
}

RECIPES: dict[str, tuple[Technique, ...]] = {
    "ptq": (FoldBatchNorm(), Calibrate()),
    "qat": (FoldBatchNorm(), Calibrate(), Finetune()),
    "report": (
        FoldBatchNorm(),
        Relu6ToRelu(),
        CrossLayerEqualization(),
        HighBiasFold(),
        Calibrate(),
        BiasCorrection(),
        Finetune(),
    ),
    "data_free": (
        FoldBatchNorm(),
        Relu6ToRelu(),
        CrossLayerEqualization(),
        HighBiasFold(),
        Calibrate(),
        BiasCorrection(method="analytic"),
    ),
}


def parse_recipe(value: object) -> tuple[Technique, ...]:
    """Read a recipe: a name of ``RECIPES``, or a list of names and ``{name: options}``.

    Raises:
        StudyError: a name or an option is unknown, or the order cannot work.
    """
    if isinstance(value, str):
        if value not in RECIPES:
            raise StudyError(unknown("recipe", value, RECIPES))
        return RECIPES[value]
    if not isinstance(value, list | tuple) or not value:
        raise StudyError("a recipe is the name of one or a list of techniques")
    recipe = parse_techniques(value)
    _check_order(recipe)
    return recipe


def parse_techniques(entries: Iterable[object]) -> tuple[Technique, ...]:
    """Read a list of techniques that need not be a whole recipe.

    Raises:
        StudyError: a name or an option is unknown.
    """
    return tuple(_parse_technique(entry) for entry in entries)


def dump_recipe(recipe: Iterable[Technique]) -> list[dict[str, dict[str, Any]]]:
    """Write a recipe with every option resolved, in the form that ``parse_recipe`` reads."""
    return [{technique.name: technique.model_dump(mode="json")} for technique in recipe]


def _parse_technique(entry: object) -> Technique:
    if isinstance(entry, Technique):
        return entry
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise StudyError(f"recipe entry {entry!r} is not a technique or {{technique: options}}")
    [(name, options)] = entry.items()
    if name not in TECHNIQUES:
        raise StudyError(unknown("technique", str(name), TECHNIQUES))
    try:
        return TECHNIQUES[name].model_validate(options or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = TECHNIQUES[name].model_fields
            raise StudyError(unknown("option", key, known, where=name)) from None
        raise StudyError(f"{name}.{key}: {first['msg']}") from None


def _check_order(recipe: tuple[Technique, ...]) -> None:
    simulated_by: str | None = None
    before: set[str] = set()
    for technique in recipe:
        if technique.after is not None and technique.after not in before:
            raise StudyError(
                f"'{technique.name}' works on folded layers: put '{technique.after}' before it"
            )
        before.add(technique.name)
        if technique.phase == "simulated" and simulated_by is None:
            raise StudyError(
                f"'{technique.name}' works on the simulated network: put 'calibrate' before it"
            )
        if technique.phase != "simulated" and simulated_by is not None:
            raise StudyError(
                f"'{technique.name}' changes the float network: put it before '{simulated_by}'"
            )
        if technique.phase == "simulate":
            simulated_by = technique.name
    if simulated_by is None:
        raise StudyError("the recipe never simulates the network: add 'calibrate'")
