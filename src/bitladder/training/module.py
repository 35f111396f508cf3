"""The Lightning module: loss, optimizer, schedule, and the numbers of every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from bitladder.errors import TrainingError
from bitladder.options import TrainOptions
from bitladder.progress import Progress
from bitladder.structures import Inputs, Outputs, as_inputs, channels_last, count, named
from bitladder.tasks import Task
from bitladder.training.batches import single_image
from bitladder.training.tuning import Tuning

_LOG_EVERY = 10  # steps
_REPORT_EVERY = 0.5  # seconds
TRAIN_QUALITY = "train_quality_seen"
"""What early stopping watches."""


class TrainedModule(lightning.LightningModule):
    """Trains ``model`` itself, not a copy; the teacher stays outside of its state.

    Args:
        model: the network.
        options: training options.
        task: what its outputs mean.
        steps: optimizer steps in all.
        lr: learning rate.
        seed: seed of what is random in a forward, such as dropout.
        images: what it is trained on, in words.
        tuning: what fine-tuning adds.
        report: called about twice a second, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        options: TrainOptions,
        task: Task,
        *,
        steps: int,
        lr: float,
        seed: int,
        images: str = "",
        tuning: Tuning | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.options, self.steps, self.lr, self.seed = options, steps, lr, seed
        self.report, self.described = report, images
        self.tuning = tuning or Tuning()  # a plain object, so that its teacher is no submodule
        self.history: list[dict[str, float]] = []
        # Quality and loss of each image summed, and images, since the last log.
        self._counts = torch.zeros(3)
        self._validation, self._validation_loss = task.meter(), torch.zeros(2)
        self._train_quality: float | None = None
        self._val_quality: float | None = None
        self._images = self._logged = 0
        self._started = self._reported = time.perf_counter()

    def loss(self, inputs: Inputs, target: Any, outputs: Outputs) -> Tensor:
        """The task's loss and, by their shares, the teacher's and the penalty."""
        teacher, share = self.tuning.teacher, self.tuning.distill
        if teacher is None or not share:
            loss = self.task.loss(outputs, target)
        else:
            with torch.no_grad():
                wanted = named(teacher(*inputs))
            loss = share * self.task.distill(outputs, wanted)
            if share < 1:
                loss = loss + (1 - share) * self.task.loss(outputs, target)
        if self.tuning.penalty is not None:
            loss = loss + self.tuning.penalty(self.global_step / self.steps)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves so far, so that a resumed run has the whole of them."""
        checkpoint["curves"] = (self.history, self._counts.tolist(), self._train_quality)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the saved curves."""
        self.history, counts, self._train_quality = checkpoint["curves"]
        self._counts = torch.tensor(counts)

    def on_fit_start(self) -> None:
        """Bring the teacher, which is no submodule, to where the images are."""
        if self.tuning.teacher is not None:
            self.tuning.teacher.to(self.device)

    def on_train_start(self) -> None:
        """Log what was logged before the checkpoint, so that the logs hold the whole curves."""
        for row in self.history:
            self._log({k: v for k, v in row.items() if k not in ("step", "epoch")}, row["step"])

    def on_train_epoch_start(self) -> None:
        """Seed the epoch by its number, so that a resumed run draws the same."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let batch norms keep their statistics from the step on that was asked for."""
        if self.global_step >= self.tuning.freeze_batch_norm * self.steps:
            for module in self.model.modules():
                if isinstance(module, BatchNorm):
                    module.eval()

    def training_step(self, batch: tuple[Any, Any, float], index: int) -> Tensor:
        """A batch's part of a step's loss; raises TrainingError where it is not a number."""
        inputs, target, weight = channels_last(as_inputs(batch[0])), batch[1], batch[2]
        outputs = self._outputs(inputs)
        loss = self.loss(inputs, target, outputs)
        value, images = float(loss.detach()), count(inputs)
        if value != value or value == float("inf"):
            raise TrainingError(
                f"the loss is not a number at step {self.global_step} with learning rate "
                f"{self.lr:g}; lower the learning rate or clip gradients"
            )
        meter = self.task.meter()
        meter.update({name: one.detach() for name, one in outputs.items()}, target)
        self._counts += torch.tensor([meter.value() * images, images, value * images])
        self._images += images
        return loss * weight

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log every few steps and report a few times a second."""
        step = self.global_step  # which several batches may make
        if step != self._logged and (step % _LOG_EVERY == 0 or step == self.steps):
            self._logged = step
            quality, images, loss = self._counts.tolist()
            if images:
                self._train_quality = quality = quality / images
                self._write({"train_loss": loss / images, "train_quality": quality})
                self._counts.zero_()
        if self.report and time.perf_counter() - self._reported > _REPORT_EVERY:
            self._tell()

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the last step: what they reached is told when training has ended.

        The optimizer clears them before the next one.
        """

    def validation_step(self, batch: tuple[Any, Any], index: int) -> None:
        """Count one validation batch."""
        inputs, target = channels_last(as_inputs(batch[0])), batch[1]
        outputs, images = named(self.model(*inputs)), count(inputs)
        self._validation.update(outputs, target)
        self._validation_loss += torch.tensor(
            [float(self.task.loss(outputs, target)) * images, images]
        )

    def on_validation_epoch_end(self) -> None:
        """Log validation and let early stopping see the training quality."""
        loss, images = self._validation_loss.tolist()
        self._val_quality = self._validation.value()
        self._validation, self._validation_loss = self.task.meter(), torch.zeros(2)
        self._write({"val_loss": loss / images, "val_quality": self._val_quality})
        self.log(TRAIN_QUALITY, self._train_quality or 0.0, logger=False)
        if self.report:
            self._tell()

    def configure_optimizers(self) -> Any:
        """Adam (or AdamW) with the schedule over all steps."""
        groups = self._groups()
        kind = torch.optim.AdamW if self.options.weight_decay else torch.optim.Adam
        optimizer = kind(groups, self.lr, weight_decay=self.options.weight_decay)
        schedules = torch.optim.lr_scheduler
        if self.options.schedule == "constant":
            return optimizer
        schedule: torch.optim.lr_scheduler.LRScheduler
        if self.options.schedule == "one_cycle":
            peaks = [group["lr"] for group in groups]
            schedule = schedules.OneCycleLR(optimizer, peaks, total_steps=self.steps + 1)
        else:
            schedule = schedules.CosineAnnealingLR(optimizer, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _outputs(self, inputs: Inputs) -> Outputs:
        try:
            outputs: Outputs = named(self.model(*inputs))
        except ValueError as error:  # PyTorch's of a batch norm that sees one value a channel
            if count(inputs) > 1 or "Expected more than 1" not in str(error):
                raise
            raise TrainingError(single_image(self.described)) from error
        return outputs

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters that are trained, by the learning rate they have; the network's own first."""
        rate = self.tuning.rate or (lambda name: 1.0)
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and rate(name):
                groups.setdefault(rate(name), []).append(parameter)
        return [
            {"params": parameters, "lr": self.lr * factor}
            for factor, parameters in groups.items()
            if parameters
        ]

    def _write(self, values: dict[str, float]) -> None:
        values = {**values, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.history.append({"step": self.global_step, "epoch": self.current_epoch, **values})
        self._log(values, self.global_step)

    def _log(self, values: dict[str, float], step: float) -> None:
        if self.logger is not None:
            self.logger.log_metrics(values, step=int(step))

    def _tell(self) -> None:
        assert self.report is not None
        self._reported = time.perf_counter()
        elapsed = self._reported - self._started
        done = max(1, self._images // (self.options.batch_size * self.options.accumulate))
        left = max(0, self.steps - self.global_step) * elapsed / done
        self.report(
            Progress(
                epoch=self.current_epoch + 1,
                epochs=self.trainer.max_epochs or 0,
                step=self.global_step,
                steps=self.steps,
                images_per_second=self._images / elapsed if elapsed else 0.0,
                train_quality=self._train_quality,
                val_quality=self._val_quality,
                seconds_left=left,
            )
        )
