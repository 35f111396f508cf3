"""What a person sees while a study runs: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from bitladder.pipeline.execute import Observer, Outcome
from bitladder.pipeline.graph import Stage
from bitladder.progress import Progress


@contextmanager
def watching(console: Console) -> Iterator[Observer]:
    """Show a run on ``console`` while the block lasts."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
        transient=True,
    ) as bars:
        yield _Live(console, bars)


class _Lines(Observer):
    """A line a stage and a line an epoch, for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stages = self.done = 0
        self.epochs: dict[str, int] = {}

    def begin(self, stages: Sequence[Stage]) -> None:
        self.stages = len(stages)
        self.say(f"{self.stages} stages")

    def progress(self, label: str, progress: Progress) -> None:
        if self.epochs.get(label) != progress.epoch:
            self.epochs[label] = progress.epoch
            self.say(f"        {label}: {_describe(progress)}")

    def finished(self, outcome: Outcome) -> None:
        self.done += 1
        self.say(f"[{self.done}/{self.stages}] {_describe_outcome(outcome)}")

    def message(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True, highlight=False)


class _Live(_Lines):
    """A bar for the study and one for each stage that trains; finished stages scroll away above."""

    def __init__(self, console: Console, bars: Bars) -> None:
        super().__init__(console)
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}
        self.study: TaskID | None = None

    def begin(self, stages: Sequence[Stage]) -> None:
        super().begin(stages)
        self.study = self.bars.add_task("stages", total=len(stages), detail="")

    def progress(self, label: str, progress: Progress) -> None:
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(escape(label), total=progress.steps, detail="")
        self.bars.update(
            self.tasks[label], completed=progress.step, detail=escape(_describe(progress))
        )

    def finished(self, outcome: Outcome) -> None:
        super().finished(outcome)
        task = self.tasks.pop(outcome.stage.label, None)
        if task is not None:
            self.bars.remove_task(task)
        assert self.study is not None
        self.bars.advance(self.study)


def _describe(progress: Progress) -> str:
    training = "" if progress.train_acc is None else f", acc {progress.train_acc:.3f}"
    validation = "" if progress.val_acc is None else f", val {progress.val_acc:.3f}"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return (
        f"epoch {progress.epoch}/{progress.epochs}, {progress.images_per_second:.0f} images/s"
        f"{training}{validation}, {minutes}:{seconds:02d} left"
    )


def _describe_outcome(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"failed: {outcome.stage.label}: {outcome.error}"
    return f"{'done' if outcome.produced else 'cached'}: {outcome.stage.label}"
