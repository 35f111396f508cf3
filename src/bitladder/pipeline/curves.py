"""Loss and quality over the steps of training and fine-tuning, from what the stages wrote."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.rows import place
from bitladder.pipeline.stage_records import TrainRecord

MEASURES = ("train_loss", "train_quality", "val_loss", "val_quality", "lr")
CURVE_COLUMNS = ("dataset", "model", "precision", "phase", "step", "epoch", *MEASURES)
_DIGITS = 6  # of what TensorBoard keeps as float32


def curve_rows(cells: Iterable[CellResult]) -> Iterator[dict[str, Any]]:
    """One row a logged step, the columns of curves.csv.

    ``phase`` is ``train`` or ``finetune``. The float network of several cells is told once, with
    ``float`` as its precision. The epoch is known of float training alone.
    """
    told: set[Path] = set()
    for cell in cells:
        for stage in cell.cell.stages:
            folder = cell.folders.get(stage.key)
            if not stage.kind.trains or folder is None or folder in told:
                continue
            told.add(folder)
            record = cell.records[stage.key]
            trained = isinstance(record, TrainRecord)
            history = record.history if isinstance(record, TrainRecord) else ()
            logs = _by_step(history) if history else _logged(folder / "tensorboard")
            precision = {"precision": "float"} if trained else {}
            for row in logs:
                measured = {**dict.fromkeys(MEASURES), **row}  # short runs validate nothing
                yield {**place(cell), **precision, "phase": stage.kind.name, **measured}


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
