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
from bitladder.tasks.classes import label_loss, right, share_loss, shares
from bitladder.training.batches import single_image
from bitladder.training.tuning import Tuning

_LOG_EVERY = 10  # steps
_REPORT_EVERY = 0.5  # seconds


class Classifier(lightning.LightningModule):
    """Trains ``model`` itself, not a copy; the teacher stays outside of its state.

    Args:
        model: maps float images (N, C, H, W) to logits (N, classes).
        options: training options.
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
        *,
        steps: int,
        lr: float,
        seed: int,
        images: str = "",
        tuning: Tuning | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.options, self.steps, self.lr, self.seed = options, steps, lr, seed
        self.report, self.described = report, images
        self.tuning = tuning or Tuning()  # a plain object, so that its teacher is no submodule
        self.history: list[dict[str, float]] = []
        self._counts = torch.zeros(3)  # correct, images, loss summed, since the last log
        self._validation = torch.zeros(3)
        self._train_acc: float | None = None
        self._val_acc: float | None = None
        self._images = 0
        self._started = self._reported = time.perf_counter()

    def loss(self, images: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        """Cross-entropy with the labels and, by their shares, the teacher and the penalty."""
        teacher, share = self.tuning.teacher, self.tuning.distill
        if teacher is None or not share:
            loss = label_loss(logits, labels)
        else:
            with torch.no_grad():
                wanted = shares(teacher(images))
            loss = share * share_loss(logits, wanted)
            if share < 1:
                loss = loss + (1 - share) * label_loss(logits, labels)
        if self.tuning.penalty is not None:
            loss = loss + self.tuning.penalty(self.global_step / self.steps)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves so far, so that a resumed run has the whole of them."""
        checkpoint["curves"] = (self.history, self._counts.tolist(), self._train_acc)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the saved curves."""
        self.history, counts, self._train_acc = checkpoint["curves"]
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

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """One step's loss; raises TrainingError where it is not a number."""
        images, labels = batch[0].contiguous(memory_format=torch.channels_last), batch[1]
        logits = self._logits(images)
        loss = self.loss(images, labels, logits)
        value = float(loss.detach())
        if value != value or value == float("inf"):
            raise TrainingError(
                f"the loss is not a number at step {self.global_step} with learning rate "
                f"{self.lr:g}; lower the learning rate or clip gradients"
            )
        correct = right(logits.detach(), labels)
        self._counts += torch.tensor([correct, len(labels), value * len(labels)])
        self._images += len(labels)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log every few steps and report a few times a second."""
        step = self.global_step
        if step % _LOG_EVERY == 0 or step == self.steps:
            correct, images, loss = self._counts.tolist()
            if images:
                self._train_acc = accuracy = correct / images
                self._write({"train_loss": loss / images, "train_acc": accuracy})
                self._counts.zero_()
        if self.report and time.perf_counter() - self._reported > _REPORT_EVERY:
            self._tell()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count one validation batch."""
        images, labels = batch[0].contiguous(memory_format=torch.channels_last), batch[1]
        logits = self.model(images)
        loss, correct = float(label_loss(logits, labels)), right(logits, labels)
        self._validation += torch.tensor([correct, len(labels), loss * len(labels)])

    def on_validation_epoch_end(self) -> None:
        """Log validation and let early stopping see the training accuracy."""
        correct, images, loss = self._validation.tolist()
        self._validation.zero_()
        self._val_acc = correct / images
        self._write({"val_loss": loss / images, "val_acc": self._val_acc})
        self.log("train_acc_seen", self._train_acc or 0.0, logger=False)
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

    def _logits(self, images: Tensor) -> Tensor:
        try:
            logits: Tensor = self.model(images)
        except ValueError as error:  # PyTorch's of a batch norm that sees one value a channel
            if len(images) > 1 or "Expected more than 1" not in str(error):
                raise
            raise TrainingError(single_image(self.described)) from error
        return logits

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
        done = max(1, self._images // self.options.batch_size)
        left = max(0, self.steps - self.global_step) * elapsed / done
        self.report(
            Progress(
                epoch=self.current_epoch + 1,
                epochs=self.trainer.max_epochs or 0,
                step=self.global_step,
                steps=self.steps,
                images_per_second=self._images / elapsed if elapsed else 0.0,
                train_acc=self._train_acc,
                val_acc=self._val_acc,
                seconds_left=left,
            )
        )
