"""Options of every technique."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from bitladder import target_specs
from bitladder.errors import StudyError
from bitladder.options.base import Version
from bitladder.options.precision import MAX_BITS, MIN_BITS, Precision
from bitladder.options.technique import Phase, Technique
from bitladder.options.training import Augmentation, Schedule

RangeMethod = Literal["sqnr", "mse", "entropy", "percentile", "min_max"]


class FoldBatchNorm(Technique):
    """Fold every batch norm into the convolution or linear layer beside it."""

    name: ClassVar[str] = "fold_batch_norm"
    phase: ClassVar[Phase] = "float"
    folds: ClassVar[bool] = True


class Relu6ToRelu(Technique):
    """Replace ReLU6 by ReLU, so that scaling can pass through it."""

    name: ClassVar[str] = "relu6_to_relu"
    phase: ClassVar[Phase] = "float"
    not_after: ClassVar[tuple[str, ...]] = ("cross_layer_equalization", "high_bias_fold")


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

    method: RangeMethod = "sqnr"
    """``sqnr`` (AIMET's tf_enhanced), ``mse``, ``entropy``, ``percentile`` or ``min_max``."""
    percentile: float = Field(default=99.99, gt=50, le=100)
    """Share of values kept by the percentile method, in percent."""
    images: int = Field(default=1000, ge=1)
    """Calibration images, the first of the training split."""
    config: str = "default"
    """AIMET's quantsim config: a name such as ``default`` or ``htp_v73``, or a JSON file."""
    weights: Literal["config", "per_channel", "per_tensor"] = "config"
    """One range a weight or one a channel, or what the config says."""
    symmetric_weights: bool | None = None
    """Whether weights' zero is in the middle of their grid; by default what the config says."""
    symmetric_activations: bool | None = None
    """The same of activations."""
    targets: tuple[str, ...] | None = None
    """Targets whose formats the grids have to fit, such as ``litert``; by default those that a
    study verifies on, and none elsewhere."""
    outputs: Literal["method", "task"] = "task"
    """Ranges of the network's outputs: like all others, or those that the task asks for."""
    edges: int | None = Field(default=None, ge=MIN_BITS, le=MAX_BITS)
    """Bits of the input and of the first and last layer, as ``-edges8`` in a precision."""

    @field_validator("targets")
    @classmethod
    def _are_there(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            try:
                target_specs.find(name)
            except StudyError as error:
                raise ValueError(str(error)) from None
        return value


class SequentialMse(Technique):
    """Choose each weight range by the error it causes in the layer's output, in order."""

    name: ClassVar[str] = "sequential_mse"
    phase: ClassVar[Phase] = "simulated"
    checked: ClassVar[bool] = True
    not_after: ClassVar[tuple[str, ...]] = ("adaround", "bias_correction")
    before_training: ClassVar[bool] = True

    images: int = Field(default=256, ge=1)
    """Calibration images, the first of the training split."""
    candidates: int = Field(default=20, ge=2)
    """Ranges tried for each weight."""


class ForNarrowWeights(Technique):
    """A technique that can be left out where weights are wide."""

    weights_below: int | None = Field(default=None, ge=MIN_BITS + 1, le=MAX_BITS)
    """Leave it out where weights have so many bits or more; null never does."""

    def suits(self, precision: Precision) -> bool:
        """Whether the weights are narrow enough."""
        return self.weights_below is None or precision.weights < self.weights_below


class Adaround(ForNarrowWeights):
    """Learn for every weight whether to round up or down, layer by layer."""

    name: ClassVar[str] = "adaround"
    phase: ClassVar[Phase] = "simulated"
    checked: ClassVar[bool] = True
    not_after: ClassVar[tuple[str, ...]] = ("adaround", "bias_correction")
    before_training: ClassVar[bool] = True

    images: int = Field(default=500, ge=1)
    """Calibration images, the first of the training split."""
    iterations: int = Field(default=1000, ge=1)
    """Optimizer steps a layer; the paper takes 10,000."""
    regularization: float = Field(default=0.01, ge=0)
    """Weight of the loss that drives every rounding to a decision."""
    batch_size: int = Field(default=50, ge=1)
    """Images a forward while activations are collected."""


class Reconstruct(Technique):
    """Learn roundings and activation ranges block by block, so that each gives its float output."""

    name: ClassVar[str] = "reconstruct"
    phase: ClassVar[Phase] = "simulated"
    not_after: ClassVar[tuple[str, ...]] = ("adaround", "reconstruct", "bias_correction")
    before_training: ClassVar[bool] = True

    images: int = Field(default=1024, ge=1)
    """Calibration images, the first of the training split; one in eight is held out."""
    iterations: int = Field(default=1000, ge=1)
    """Optimizer steps a block; the papers take 20,000."""
    batch_size: int = Field(default=32, ge=1)
    """Images a step."""
    lr: float = Field(default=3e-3, gt=0)
    """Adam's learning rate of the roundings."""
    range_lr: float = Field(default=4e-4, ge=0)
    """That of the ends of a range, in shares of the range; 0 keeps the ranges as they are."""
    drop: float = Field(default=0.5, ge=0, le=1)
    """Share of the activations that are not quantized in a step, at random."""
    regularization: float = Field(default=0.01, ge=0)
    """Weight of the loss that drives every rounding to a decision."""


class Distill(Technique):
    """Train the simulated network on the float network's outputs, without labels."""

    name: ClassVar[str] = "distill"
    phase: ClassVar[Phase] = "simulated"
    checked: ClassVar[bool] = True
    not_after: ClassVar[tuple[str, ...]] = ("bias_correction",)
    before_training: ClassVar[bool] = True

    images: int = Field(default=1024, ge=1)
    """Calibration images, the first of the training split; one in eight is held out."""
    steps: int = Field(default=600, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=64, ge=1)
    """Images a step."""
    lr: float = Field(default=3e-3, gt=0)
    """Adam's learning rate (the peak of the schedule)."""
    range_lr: float | None = Field(default=None, ge=0)
    """Learning rate of the ranges; null takes ``lr``, 0 keeps the ranges as they are."""
    schedule: Schedule = "one_cycle"
    """How the learning rates run."""
    gradient_clip: float = Field(default=0.5, ge=0)
    """Largest gradient norm; 0 does not clip."""


class MixedPrecision(Technique):
    """Give each layer's weights their own bits under a budget, by measured sensitivity."""

    name: ClassVar[str] = "mixed_precision"
    phase: ClassVar[Phase] = "simulated"
    not_after: ClassVar[tuple[str, ...]] = ("sequential_mse", "adaround", "bias_correction")
    before_training: ClassVar[bool] = True

    bits: tuple[int, ...] = (2, 3, 4, 6, 8)
    """Widths to choose from."""
    mean_bits: float | None = Field(default=None, ge=MIN_BITS, le=MAX_BITS)
    """Budget: bits of a weight on average."""
    megabytes: float | None = Field(default=None, gt=0)
    """Budget: packed weights in units of 1,000,000 bytes."""
    gigabops: float | None = Field(default=None, gt=0)
    """Budget: multiply-adds times weight bits times activation bits, in units of 1e9."""
    min_agreement: float | None = Field(default=None, gt=0, le=1)
    """Floor: share of calibration images whose class stays; accuracy falls by the rest at most."""
    images: int = Field(default=256, ge=1)
    """Calibration images, the first of the training split."""

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        goals = (self.mean_bits, self.megabytes, self.gigabops, self.min_agreement)
        if sum(goal is not None for goal in goals) != 1:
            raise ValueError("give one of mean_bits, megabytes, gigabops and min_agreement")
        if not all(MIN_BITS <= bits <= MAX_BITS for bits in self.bits) or len(self.bits) < 2:
            raise ValueError(f"bits: at least two widths of {MIN_BITS} to {MAX_BITS}")
        return self


class Repair(Technique):
    """Give the fewest layers more bits, weights and activations, until the outputs are near."""

    name: ClassVar[str] = "repair"
    phase: ClassVar[Phase] = "simulated"
    not_after: ClassVar[tuple[str, ...]] = ("sequential_mse", "adaround", "bias_correction")

    bits: int = Field(default=16, ge=MIN_BITS, le=MAX_BITS)
    """Width of the grids of the layers that are widened."""
    min_agreement: float | None = Field(default=None, gt=0, le=1)
    """Limit: share of calibration images whose answer stays; accuracy falls by the rest at most."""
    min_sqnr: float | None = None
    """Limit: SQNR of the outputs in dB, for networks without a task."""
    layers: int | None = Field(default=None, ge=1)
    """Budget in place of a limit: how many layers to widen, the costliest first."""
    target: str | None = "onnxruntime"
    """Where the limit has to be kept, or null for the simulation alone."""
    images: int = Field(default=256, ge=1)
    """Calibration images, the first of the training split."""

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if self.target is not None:
            target_specs.find(self.target)
        goals = (self.min_agreement, self.min_sqnr, self.layers)
        if sum(goal is not None for goal in goals) != 1:
            raise ValueError("give one of min_agreement, min_sqnr and layers")
        return self


class BiasCorrection(ForNarrowWeights):
    """Take the mean error that quantized weights cause out of every channel's bias."""

    name: ClassVar[str] = "bias_correction"
    phase: ClassVar[Phase] = "simulated"
    checked: ClassVar[bool] = True
    after: ClassVar[str | None] = "fold_batch_norm"
    before_training: ClassVar[bool] = True

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
    """Images of a batch, which is a step unless batches are accumulated."""
    accumulate: int = Field(default=1, ge=1)
    """Batches of a step, whose gradients are averaged."""
    augment: Augmentation = "none"
    """As in ``train``: ``none``, ``standard`` or package.module:function."""
    lr: float = Field(default=5e-4, gt=0)
    """Adam's learning rate (the peak of the schedule)."""
    range_lr: float | None = Field(default=None, ge=0)
    """Learning rate of the ranges; null takes ``lr``, 0 keeps the ranges as they are."""
    schedule: Schedule = "one_cycle"
    """How the learning rates run."""
    gradient_clip: float = Field(default=0.5, ge=0)
    """Largest gradient norm; 0 does not clip."""
    distill: float = Field(default=1.0, ge=0, le=1)
    """Share of the loss that follows the float network's outputs; the rest follows the labels."""
    freeze_batch_norm: float = Field(default=1.0, ge=0, le=1)
    """Share of the steps after which batch norms keep their statistics; 1 never freezes them."""
    dampen: float = Field(default=0.0, ge=0)
    """Weight, at the last step, of the loss against weights that oscillate between integers."""
    version: Version | None = None
    """Version of augment's code, if the key cannot see it: part of every key."""


class ReestimateBatchNorm(Technique):
    """Measure batch norms' statistics on the quantized network, then fold them."""

    name: ClassVar[str] = "reestimate_batch_norm"
    phase: ClassVar[Phase] = "simulated"
    folds: ClassVar[bool] = True

    images: int = Field(default=5000, ge=2)
    """Images the statistics are taken from, the first of the training split."""
    batch_size: int = Field(default=250, ge=2)
    """Images a batch, whose mean and variance are averaged."""


class IntegerFinetune(Technique):
    """The last steps of fine-tuning, on the very logits that integer kernels compute."""

    name: ClassVar[str] = "integer_finetune"
    phase: ClassVar[Phase] = "simulated"
    trains: ClassVar[bool] = True
    folded: ClassVar[bool] = True

    steps: int = Field(default=50, ge=1)
    """Optimizer steps; each one exports the network anew, which takes a second or more."""
    batch_size: int = Field(default=256, ge=1)
    """Images per step."""
    lr: float = Field(default=1e-4, gt=0)
    """Adam's learning rate (the peak of the schedule)."""
    schedule: Schedule = "one_cycle"
    """How the learning rate runs."""
    gradient_clip: float = Field(default=0.5, ge=0)
    """Largest gradient norm; 0 does not clip."""
    distill: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that follows the float network's outputs; the rest follows the labels."""
