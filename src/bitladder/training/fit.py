"""Fit a network on a split with Lightning's Trainer: find the rate, train, resume, judge."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.tuner.tuning import Tuner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from bitladder.data import Batches, Split
from bitladder.errors import TrainingError
from bitladder.files import written_aside
from bitladder.isolation import hush
from bitladder.options import TrainOptions
from bitladder.progress import Progress
from bitladder.tasks import Task
from bitladder.training.augment import Augmented
from bitladder.training.batches import Grouped, describe, single, single_image, trainable
from bitladder.training.evaluate import evaluate
from bitladder.training.module import TRAIN_QUALITY, TrainedModule
from bitladder.training.tuning import Tuning

_LOWEST_LR = 1e-5  # the range test goes from here to 1
_SKIPPED = 10  # its first steps, in which the smoothed loss has no meaning yet
_EVALUATION_BATCH = 250


@dataclass(frozen=True)
class FitResult:
    """What a training run did.

    Attributes:
        epochs: epochs begun.
        steps: optimizer steps done.
        lr: learning rate, the peak of the schedule.
        seconds: wall time of this process.
        history: one row per log: step, epoch and train_loss, train_quality, val_loss, val_quality
            or lr.
    """

    epochs: int
    steps: int
    lr: float
    seconds: float
    history: list[dict[str, float]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's warnings and messages from the user."""
    hush("lightning.pytorch", "lightning.fabric")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        yield


@_quiet()
def fit(
    model: nn.Module,
    train: Split,
    validation: Split | None,
    options: TrainOptions,
    task: Task,
    *,
    seed: int,
    log_dir: Path,
    classes: int | None = None,
    tuning: Tuning | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train ``model`` in place and leave it in evaluation mode.

    Args:
        model: the network.
        train: images with their targets, to train on.
        validation: images with their targets for the curves and to tell chance from learning, or
            None; nothing is chosen by them.
        options: training options.
        task: what the network's outputs mean.
        seed: seed of the order of images and of everything random.
        log_dir: folder of the TensorBoard logs.
        classes: number of classes, or None where the task has none.
        tuning: what fine-tuning adds, or None.
        checkpoint: written at the end of every epoch; where it is there, training goes on from it,
            unless it is damaged.
        report: called with the progress, or None.

    Raises:
        DataError: targets are none of the task's.
        TrainingError: the loss is not a number, training ends at chance level, there is nothing to
            train or to train on, or batch norms would see one image at a time.
    """
    started = time.perf_counter()
    batches = _batches(train, options, task, seed)
    model.train()
    _refuse_nothing(model, batches, tuning or Tuning())
    in_epoch = -(-len(batches) // options.accumulate)
    epochs = -(-options.steps // in_epoch) if options.steps else options.epochs
    steps = options.steps or epochs * in_epoch
    lightning.seed_everything(seed, workers=True, verbose=False)
    _lay_out(model)
    lr = options.lr if options.lr != "auto" else _find_lr(model, train, options, task, seed)
    module = TrainedModule(
        model,
        options,
        task,
        steps=steps,
        lr=lr,
        seed=seed,
        images=describe(batches),
        tuning=tuning,
        report=report,
    )
    trainer = lightning.Trainer(
        **_quiet_trainer(options),
        max_epochs=epochs,
        max_steps=steps,
        val_check_interval=max(1, round(len(batches) * options.validate_every)),
        logger=TensorBoardLogger(log_dir, name="", version=""),
        gradient_clip_val=options.gradient_clip or None,
        callbacks=_callbacks(options, task, checkpoint),
    )
    resume = str(checkpoint) if checkpoint is not None and _can_resume(checkpoint) else None
    with _interruptible(trainer), torch.enable_grad():  # whatever the caller has turned off
        trainer.fit(
            module,
            Grouped(batches, options.accumulate),
            None if validation is None else validation.batches(_EVALUATION_BATCH),
            ckpt_path=resume,
            weights_only=True,
        )
    model.eval()
    if validation is not None:
        _refuse_chance(model, validation, task, classes, lr)
    return FitResult(
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        lr=lr,
        seconds=time.perf_counter() - started,
        history=module.history,
    )


def _batches(train: Split, options: TrainOptions, task: Task, seed: int) -> Batches:
    """The training images of an epoch, augmented where that is asked for."""
    batches = trainable(train.batches(options.batch_size, shuffle_seed=seed))
    if options.augment != "none":
        batches = Augmented(batches, options.augment, task, seed)
    return batches


def _lay_out(model: nn.Module) -> None:
    """Have the weights of two-dimensional convolutions in the memory format of their images."""
    for value in itertools.chain(model.parameters(), model.buffers()):
        if value.dim() == 4:
            value.data = value.data.to(memory_format=torch.channels_last)


class _EpochCheckpoint(Callback):
    """Write the whole state between epochs, aside and then moved in.

    It is written as the next epoch begins, its batches not yet begun: from a state saved while
    an epoch ends, Lightning 2.6 counts that epoch twice and leaves out the last one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.global_step:
            return
        with written_aside(self.path) as aside:
            trainer.save_checkpoint(aside)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        batches["is_last_batch"] = False
        batches["current"] = dict.fromkeys(batches["current"], 0)


@contextlib.contextmanager
def _interruptible(trainer: Any) -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt, as anywhere in Python.

    Lightning catches it, ignores any further one, and returns or exits with code 1.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt


def _can_resume(checkpoint: Path) -> bool:
    """Whether a checkpoint is there and whole."""
    if not checkpoint.exists():
        return False
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception:  # whatever the reader stumbles over
        return False
    return True


def _callbacks(options: TrainOptions, task: Task, checkpoint: Path | None) -> list[Callback]:
    callbacks: list[Callback] = []
    if options.early_stopping is not None:
        callbacks.append(
            EarlyStopping(
                TRAIN_QUALITY,
                mode="max" if task.higher_is_better else "min",
                min_delta=options.early_stopping.min_delta,
                patience=options.early_stopping.patience,
            )
        )
    if checkpoint is not None:
        callbacks.append(_EpochCheckpoint(checkpoint))
    return callbacks


def _find_lr(model: nn.Module, train: Split, options: TrainOptions, task: Task, seed: int) -> float:
    """The rate at which the loss falls fastest a decade, by Lightning's range test on a copy.

    Smith 2017 (arXiv 1506.01186). Lightning's own suggestion divides by the rate's linear step,
    which favours the smallest rates whatever the loss does.
    """
    batches = _batches(train, options, task, seed)
    trial = TrainedModule(
        copy.deepcopy(model).train(),
        options,
        task,
        steps=100,
        lr=_LOWEST_LR,
        seed=seed,
        images=describe(batches),
    )
    trial.options = options.model_copy(update={"schedule": "constant"})
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            **_quiet_trainer(options), logger=False, default_root_dir=folder, max_epochs=1000
        )
        # Its progress bar cannot be turned off.
        with (
            _interruptible(trainer),
            contextlib.redirect_stderr(io.StringIO()),
            torch.enable_grad(),
        ):
            finder = Tuner(trainer).lr_find(
                trial,
                Grouped(batches, options.accumulate),
                min_lr=_LOWEST_LR,
                update_attr=False,
            )
    lightning.seed_everything(seed, workers=True, verbose=False)
    assert finder is not None
    rates, losses = (finder.results[name][_SKIPPED:-1] for name in ("lr", "loss"))
    if len(losses) < 2:  # the loss grew at once
        return _LOWEST_LR
    slopes = torch.gradient(torch.tensor(losses))[0]  # the rates are evenly spaced in log
    return float(rates[int(slopes.argmin())])


def _quiet_trainer(options: TrainOptions) -> dict[str, Any]:
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    amp = {"off": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    automatic = "16-mixed" if on_gpu else "32-true"
    return {
        "accelerator": options.accelerator,
        "devices": 1,
        "accumulate_grad_batches": options.accumulate,
        "precision": amp.get(options.amp, automatic),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }


def _refuse_nothing(model: nn.Module, batches: Batches, tuning: Tuning) -> None:
    """Refuse what would fail in the first step, or train nothing."""
    rate = tuning.rate or (lambda name: 1.0)
    if not any(p.requires_grad and rate(name) for name, p in model.named_parameters()):
        raise TrainingError(
            "there is nothing to train: every parameter of the network is frozen; set "
            "requires_grad of those that shall be trained"
        )
    measuring = any(m.training for m in model.modules() if isinstance(m, BatchNorm))
    if measuring and tuning.freeze_batch_norm > 0 and single(batches):
        raise TrainingError(single_image(describe(batches)))


def _refuse_chance(
    model: nn.Module, validation: Split, task: Task, classes: int | None, lr: float
) -> None:
    chance = task.chance(classes)
    if chance is None:
        return
    found = evaluate(model, validation.batches(_EVALUATION_BATCH), task)
    if found.low <= chance:
        raise TrainingError(
            f"training ended at chance level: {found.name} {found} with {classes} classes; train "
            f"longer or change the learning rate (it was {lr:g})"
        )
