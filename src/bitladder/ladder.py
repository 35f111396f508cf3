"""The one place where techniques are applied and rungs are measured.

Notebooks climb it through ``quantize``, studies through their stages.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitladder import deploy, simulation, techniques, training
from bitladder.data import Split, check
from bitladder.errors import DataError, QuantizationError
from bitladder.options import Technique
from bitladder.progress import Progress, Step
from bitladder.rungs import FLOAT, INTEGER_BIASES, Rung
from bitladder.structures import Inputs, Outputs, as_inputs, count, first, fitting, joined, shapes

COMPARED_IMAGES = 500
"""Calibration images a rung is compared on."""
_EVALUATION_BATCH = 250  # images; qualities do not depend on it


class Ladder:
    """Applies techniques and measures the rung that each one reaches.

    Args:
        context: what techniques know; its task measures.
        validation: images with targets that every rung is measured on, or None.
        checkpoint: gives the file that the training technique of that number goes on from, or None
            to begin each anew.
        tell: told as each technique begins and ends, and as it trains, or None.
    """

    def __init__(
        self,
        context: techniques.Context,
        validation: Split | None,
        checkpoint: Callable[[int], Path] | None = None,
        tell: Callable[[Step], None] | None = None,
    ) -> None:
        self.context, self.validation, self.checkpoint = context, validation, checkpoint
        self.tell = tell or (lambda step: None)
        self.compared = first(context.calibration, COMPARED_IMAGES)
        self.rungs: list[Rung] = []
        self._reference: Outputs | None = None

    def begin(self, seconds: float = 0.0) -> Rung:
        """Measure the float network, the rung that all others are compared with."""
        rung = Rung(FLOAT, self._quality(self.context.reference), seconds=round(seconds, 3))
        self.rungs.append(rung)
        return rung

    def climb(self, steps: Sequence[Technique], model: nn.Module) -> nn.Module:
        """Apply techniques in order and measure after each.

        Args:
            steps: the techniques.
            model: float or simulated; it may be changed.

        Raises:
            QuantizationError: a technique cannot be applied, or trains and there is no training
                data.
            TrainingError: training fails.
        """
        for number, step in enumerate(steps):
            self.context.notes = []
            if self.context.training is not None and self.checkpoint is not None:
                self.context.training = replace(
                    self.context.training, checkpoint=self.checkpoint(number)
                )
            started, now = time.perf_counter(), Step(step.name, number + 1, len(steps))
            self.tell(now)
            self.context.report = functools.partial(self._train, now, started)
            model = techniques.apply(step, model, self.context)
            self.context.report = None
            self._measure(step.name, model, time.perf_counter() - started)
            self.tell(replace(now, seconds=time.perf_counter() - started, done=True))
        return model

    def _train(self, now: Step, started: float, progress: Progress) -> None:
        """Tell how far the training of a technique is."""
        self.tell(replace(now, seconds=time.perf_counter() - started, training=progress))

    def round_biases(
        self, simulated: simulation.SimulatedModel, description: deploy.Description | None = None
    ) -> deploy.Traced:
        """Give a simulated network the int32 biases of its files, the last rung.

        Args:
            simulated: the network.
            description: for the metadata of its files.

        Returns:
            The network, ready to be written.
        """
        started = time.perf_counter()
        traced = deploy.Traced(simulated, description)
        self.context.notes = [traced.quantize_biases()]
        self._measure(INTEGER_BIASES, simulated, time.perf_counter() - started)
        return traced

    def _measure(self, name: str, model: nn.Module, seconds: float) -> None:
        model.eval()
        task, sqnr, agreement = self.context.task, {}, None
        if count(self.compared):
            if self._reference is None:
                self._reference = simulation.outputs(self.context.reference, self.compared)
            found = simulation.outputs(model, self.compared)
            sqnr = simulation.sqnr_by_output(self._reference, found)
            shares = None if task is None else task.agreement(found, self._reference)
            agreement = None if shares is None else float(shares.double().mean())
        quality = self._quality(model)
        notes = tuple(self.context.notes)
        self.rungs.append(Rung(name, quality, sqnr, agreement, round(seconds, 3), notes))

    def _quality(self, model: nn.Module) -> Any:
        if self.validation is None or self.context.task is None:
            return None
        batches = self.validation.batches(fitting(self.compared, _EVALUATION_BATCH))
        return training.evaluate(model, batches, self.context.task)


def gather(
    calibration: Tensor | Iterable[Any],
    wanted: int,
    inputs: int | None = 1,
    *,
    channels_last: bool = False,
    pixels: bool = False,
) -> Inputs:
    """The first images of tensors or of batches, each batch checked.

    Args:
        calibration: a tensor (N, ...), for several inputs a tuple of them, or an iterable of
            batches: a tensor, a tuple of one tensor an input, or a pair of inputs and targets.
        wanted: how many images at most.
        inputs: that the network takes, or None where it takes any number.
        channels_last: images may have their channels last, as those of files from TensorFlow do.
        pixels: images are bytes, or pixels in 0 to 1, which bytes become.

    Raises:
        QuantizationError: there are none, or they are no tensors of one size.
    """
    where = "calibration"
    try:
        whole = isinstance(calibration, Tensor) or hasattr(calibration, "dtype")
        whole = whole or (isinstance(calibration, tuple) and _are_inputs(calibration, inputs))
        batches = [calibration] if whole else check.each(calibration, where)
        gathered: list[Inputs] = []
        size: tuple[tuple[int, ...], ...] | None = None
        for place, batch in enumerate(batches):
            here = where if whole else f"{where}, batch {place}"
            given = batch if whole or _are_inputs(batch, inputs) else _without_target(batch)
            given = _from_bytes(given, here) if pixels else given
            found = tuple(
                one.cpu()
                for one in as_inputs(check.inputs(given, here, channels_last=channels_last))
            )
            size = check.same_sizes(shapes(found), size, here)
            gathered.append(found)
            if sum(map(count, gathered)) >= wanted:
                break
    except DataError as error:
        raise QuantizationError(str(error)) from error
    if not sum(map(count, gathered)):
        raise QuantizationError("calibration: there are no images; give at least one")
    return first(joined(gathered), wanted)


def _from_bytes(given: Any, where: str) -> Any:
    """Images as pixels in 0 to 1; what is no image stays.

    Raises:
        DataError: they are of another range.
    """
    if isinstance(given, list | tuple):
        return tuple(_from_bytes(one, where) for one in given)
    if not isinstance(given, Tensor) or given.dim() != 4 or not given.numel():
        return given
    if given.dtype == torch.uint8:
        return given.float() / simulation.LEVELS
    low, high = float(given.min()), float(given.max())
    if given.is_floating_point() and (low < 0 or high > 1):
        raise DataError(
            f"{where}: pixels lie in {low:.3g} to {high:.3g}; give them in 0 to 1, or as uint8, "
            "not normalized"
        )
    return given


def _are_inputs(batch: Any, inputs: int | None) -> bool:
    """Whether a batch is one tensor an input, without a target beside them."""
    if inputs == 1:
        return isinstance(batch, Tensor)
    several = isinstance(batch, list | tuple) and all(isinstance(one, Tensor) for one in batch)
    if inputs is None:  # integers of one number an image are targets
        return several and all(one.is_floating_point() or one.dim() > 1 for one in batch)
    return several and len(batch) == inputs


def _without_target(batch: Any) -> Any:
    return batch[0] if isinstance(batch, list | tuple) and batch else batch
