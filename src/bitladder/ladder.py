"""A recipe applied step by step, and the rung that each technique reaches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bitladder import deploy, simulation, techniques, training
from bitladder.accuracy import Accuracy
from bitladder.data import LoaderSplit, check
from bitladder.errors import DataError, QuantizationError
from bitladder.options import Technique
from bitladder.structures import count, first
from bitladder.tasks.classes import number

COMPARED_IMAGES = 500
"""Calibration images a rung is compared on."""


@dataclass(frozen=True)
class Rung:
    """The network after one technique.

    Attributes:
        technique: its name, or ``integer_biases``: the biases that integer kernels add.
        sqnr: of the logits against the float network's on calibration images, in dB.
        agreement: share of these images whose class stays, 0 to 1.
        accuracy: on the validation images, or None without any.
        seconds: what the technique took.
        notes: what it said of its work.
    """

    technique: str
    sqnr: float
    agreement: float
    accuracy: Accuracy | None
    seconds: float
    notes: tuple[str, ...]


class Ladder:
    """Applies techniques and measures the rung that each one reaches."""

    def __init__(self, context: techniques.Context, validation: DataLoader[Any] | None) -> None:
        self.context, self.validation = context, validation
        self.compared = first(context.calibration, COMPARED_IMAGES)
        self.rungs: list[Rung] = []

    def climb(
        self,
        steps: Sequence[Technique],
        model: nn.Module,
        loader: DataLoader[Any] | None,
        log_dir: str | Path | None,
    ) -> simulation.SimulatedModel:
        """Apply the techniques in order, and give the network the int32 biases of its file.

        Args:
            steps: the techniques.
            model: float or simulated; it may be changed.
            loader: labelled training images, or None.
            log_dir: folder of TensorBoard logs, or None to keep none.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.context.training = self._training(loader, Path(log_dir or folder))
            for step in steps:
                self.context.notes = []
                started = time.perf_counter()
                model = techniques.apply(step, model, self.context)
                self._measure(step.name, model, time.perf_counter() - started)
        self.context.training = None
        assert isinstance(model, simulation.SimulatedModel)
        started = time.perf_counter()
        self.context.notes = [deploy.Traced(model).quantize_biases()]
        self._measure(deploy.INTEGER_BIASES, model, time.perf_counter() - started)
        return model.eval()

    def _training(
        self, loader: DataLoader[Any] | None, log_dir: Path
    ) -> techniques.TrainingData | None:
        if loader is None:
            return None
        batch = next(iter(LoaderSplit(loader, "training").batches(1)), None)
        if batch is None:
            raise DataError("training: the loader gives no batch; give at least one")
        with torch.no_grad():
            device = simulation.device_of(self.context.reference)
            classes = number(self.context.reference(batch[0][:1].to(device)))
        validation = None
        if self.validation is not None:
            validation = LoaderSplit(self.validation, "validation", classes)
        train = LoaderSplit(loader, "training", classes)
        return techniques.TrainingData(train, validation, classes, log_dir)

    def _measure(self, name: str, model: nn.Module, seconds: float) -> None:
        model.eval()
        quality = float("nan"), float("nan")
        classes = None
        if count(self.compared):
            reference = simulation.outputs(self.context.reference, self.compared)
            made = simulation.outputs(model, self.compared)
            assert self.context.task is not None
            shares = self.context.task.agreement(made, reference)
            assert shares is not None
            quality = simulation.total_sqnr(reference, made), float(shares.mean())
            [logits] = reference.values()
            classes = number(logits)
        accuracy = None
        if self.validation is not None:
            images = LoaderSplit(self.validation, "validation", classes)
            accuracy = training.evaluate(model, images.batches(1))
        notes = tuple(self.context.notes)
        self.rungs.append(Rung(name, *quality, accuracy, round(seconds, 3), notes))


def gather(calibration: Tensor | Iterable[Any], wanted: int) -> Tensor:
    """The first images of a tensor or of batches, each batch checked.

    Raises:
        QuantizationError: there are none, or they are no float images (N, C, H, W) of one size.
    """
    where = "calibration"
    try:
        whole = isinstance(calibration, Tensor) or hasattr(calibration, "dtype")
        batches = [calibration] if whole else check.each(calibration, where)
        gathered: list[Tensor] = []
        first: tuple[int, ...] | None = None
        for place, batch in enumerate(batches):
            here = where if whole else f"{where}, batch {place}"
            images = batch[0] if isinstance(batch, list | tuple) and batch else batch
            found = check.images(images, here).cpu()
            first = check.same_size(found.shape[1:], first, here)
            gathered.append(found)
            if sum(map(len, gathered)) >= wanted:
                break
    except DataError as error:
        raise QuantizationError(str(error)) from error
    if not sum(map(len, gathered)):
        raise QuantizationError("calibration: there are no images; give at least one")
    return torch.cat(gathered)[:wanted]
