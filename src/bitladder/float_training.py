"""One call that trains a float network as studies do, for notebooks and scripts."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader

from bitladder import simulation, tasks, training
from bitladder.data import LoaderSplit
from bitladder.errors import ModelError, StudyError, unknown
from bitladder.isolation import isolated
from bitladder.options import TrainOptions
from bitladder.progress import Progress, Step
from bitladder.simulation import device_of
from bitladder.steps_shown import Tell, shown
from bitladder.structures import moved, named
from bitladder.tasks import Task

_FROM_STUDIES = ("from", "batch_size")  # here the network has its weights, the loader its batches


@isolated()
def train(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    validation: DataLoader[Any] | None = None,
    task: str | Task = "classification",
    seed: int = 0,
    log_dir: str | Path | None = None,
    progress: bool | Tell = True,
    **options: Any,
) -> nn.Module:
    """Train a float network, from the weights that it has.

    ``load_weights(model, path, new_head=True)`` before it starts from a checkpoint.

    Args:
        model: the network, on any device. It is not changed.
        loader: batches (images, targets) to train on.
        validation: batches (images, targets), for the curves and to tell chance from learning.
        task: what its outputs mean, see ``quantize``.
        seed: of everything random.
        log_dir: folder of TensorBoard logs; by default none are kept.
        progress: as of ``quantize``.
        **options: of ``train`` in a study, such as ``epochs``, ``lr``, ``augment``, ``accumulate``.

    Returns:
        The trained network, a copy in evaluation mode, on the device of ``model``.

    Raises:
        StudyError: an option is unknown or not valid.
        DataError: there are no images, or targets are none of the task's.
        ModelError: the network's outputs are not such as the task reads.
        TrainingError: the loss is not a number, training ends at chance level, or there is nothing
            to train.
    """
    settings, meaning = _options(options), tasks.find(task)
    network, device = simulation.copy_of(model), device_of(model)
    classes = _classes(network, LoaderSplit(loader, meaning, "training"), meaning)
    held_out = None
    if validation is not None:
        held_out = LoaderSplit(validation, meaning, "validation", classes)
    with tempfile.TemporaryDirectory() as folder, shown(progress) as tell:
        started, step = time.perf_counter(), Step("train", 1, 1)

        def report(now: Progress) -> None:
            tell(replace(step, seconds=time.perf_counter() - started, training=now))

        tell(step)
        training.fit(
            network,
            LoaderSplit(loader, meaning, "training", classes),
            held_out,
            settings,
            meaning,
            seed=seed,
            log_dir=Path(log_dir or folder),
            report=report,
            classes=classes,
        )
        tell(replace(step, seconds=time.perf_counter() - started, done=True))
    return network.to(device).eval()


def _options(given: dict[str, Any]) -> TrainOptions:
    known = [field.alias or name for name, field in TrainOptions.model_fields.items()]
    known = [name for name in known if name not in _FROM_STUDIES]
    for name in given:
        if name not in known:
            raise StudyError(unknown("option", name, known, where="train"))
    try:
        return TrainOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(["train", *map(str, first["loc"])])
        raise StudyError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


@torch.no_grad()
def _classes(network: nn.Module, split: LoaderSplit, task: Task) -> int | None:
    """How many classes the network tells apart, by the first batch."""
    inputs, _ = next(iter(split.batches(1)))
    outputs = named(network.eval()(*moved(inputs, device_of(network))))
    try:
        task.check(outputs)
    except ModelError as error:
        raise ModelError(f"{type(network).__name__} {error}") from None
    return task.outputs_classes(outputs)
