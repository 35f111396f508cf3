"""Loss and accuracy over the steps of training and fine-tuning, from what the stages wrote."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitladder.pipeline.results import CellResult

MEASURES = ("train_loss", "train_acc", "val_loss", "val_acc", "lr")
COLUMNS = ("dataset", "model", "precision", "phase", "step", "epoch", *MEASURES)
_DIGITS = 6  # of what TensorBoard keeps as float32


def curve_rows(cells: Iterable[CellResult]) -> Iterator[dict[str, Any]]:
    """One row a logged step, the columns of curves.csv.

    ``phase`` is ``train`` or ``finetune``. The float network of several cells is told once, with
    ``float`` as its precision. The epoch is known of float training alone.
    """
    told: set[Path] = set()
    for cell in cells:
        place = {"dataset": cell.cell.dataset_label, "model": cell.cell.model_label}
        for phase, precision in (("train", "float"), ("finetune", str(cell.cell.precision))):
            folder = cell.folders.get("train" if phase == "train" else "finetune")
            if folder is None or folder in told:
                continue
            told.add(folder)
            history = cell.records["train"].get("history") if phase == "train" else None
            logs = _by_step(history) if history else _logged(folder / "tensorboard")
            for row in logs:
                yield {**place, "precision": precision, "phase": phase, **row}


def _by_step(history: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """Training and validation of one step in one row."""
    steps: dict[float, dict[str, float]] = {}
    for log in history:
        steps.setdefault(log["step"], {}).update(log)
    return [steps[step] for step in sorted(steps)]


@functools.cache  # the store's outputs do not change
def _logged(folder: Path) -> tuple[dict[str, float], ...]:
    """What the TensorBoard logs of a stage hold; nothing where there are none.

    The curves of fine-tuning are kept in no other place. A stage that fine-tunes twice has a file
    each time; their steps follow one another.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: list[dict[str, float]] = []
    for path in sorted(folder.rglob("*tfevents*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        before = rows[-1]["step"] if rows else 0
        history = [
            {"step": before + event.step, measure: round(event.value, _DIGITS)}
            for measure in MEASURES
            if measure in events.Tags()["scalars"]
            for event in events.Scalars(measure)
        ]
        rows += _by_step(history)
    return tuple(rows)
