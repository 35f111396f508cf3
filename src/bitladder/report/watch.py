"""What a person sees while a study runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bitladder.pipeline.execute import Observer, Outcome
from bitladder.pipeline.kinds import TRAIN, StageKind
from bitladder.pipeline.planning import Stage
from bitladder.progress import Progress, describe, duration

_SIGNS = {
    "waiting": ("·", "dim"),
    "running": ("run", "bold yellow"),
    "done": ("done", "green"),
    "cached": ("cached", "dim green"),
    "failed": ("failed", "bold red"),
}
_AROUND = 8  # lines of a terminal that are not rows of the table


@contextmanager
def watching(console: Console) -> Iterator[Observer]:
    """Show a run on ``console`` while the block lasts."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    board = _Board(console)
    with Live(
        get_renderable=board.render, console=console, refresh_per_second=4, transient=True
    ) as live:
        board.live = live
        yield board


class _Lines(Observer):
    """A line a stage and a line an epoch, for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stages: list[Stage] = []
        self.done = 0
        self.left: float | None = None
        self.epochs: dict[str, int] = {}

    def begin(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.say(f"{len(stages)} stages")

    def progress(self, label: str, progress: Progress) -> None:
        if self.epochs.get(label) != progress.epoch:
            self.epochs[label] = progress.epoch
            self.say(f"        {label}: {describe(progress)}")

    def finished(self, outcome: Outcome) -> None:
        self.done += 1
        left = ""
        if outcome.produced and self.left is not None and self.done < len(self.stages):
            left = f", about {duration(self.left)} left"
        self.say(f"[{self.done}/{len(self.stages)}] {_describe_outcome(outcome)}{left}")

    def time_left(self, seconds: float) -> None:
        self.left = seconds

    def message(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True, highlight=False)


class _Board(_Lines):
    """A row a cell and a column a kind of stage, what trains below; failures stay above."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.live: Live | None = None
        self.states: dict[str, str] = {}
        self.training: dict[str, Progress] = {}

    def begin(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.states = dict.fromkeys((stage.key for stage in stages), "waiting")

    def started(self, stage: Stage) -> None:
        self.states[stage.key] = "running"

    def put_back(self, stage: Stage) -> None:
        self.states[stage.key] = "waiting"

    def progress(self, label: str, progress: Progress) -> None:
        self.training[label] = progress

    def finished(self, outcome: Outcome) -> None:
        self.done += 1
        self.training.pop(outcome.stage.label, None)
        state = "done" if outcome.produced else "cached"
        self.states[outcome.stage.key] = "failed" if outcome.error else state
        if outcome.error:
            self.say(_describe_outcome(outcome))

    def render(self) -> RenderableType:
        """The table, a line for each stage that trains, and how far the study is."""
        kinds = list(dict.fromkeys(stage.kind for stage in self.stages))
        table = Table(box=None, pad_edge=False)
        table.add_column("cell")
        for kind in kinds:
            table.add_column(kind.name)
        rows = self._rows()
        shown = max(3, self.console.height - _AROUND - len(self.training))
        for name, states in rows[:shown]:
            table.add_row(Text(name), *(_cell(states.get(kind, [])) for kind in kinds))
        lines: list[RenderableType] = [table]
        if len(rows) > shown:
            lines.append(Text(f"and {len(rows) - shown} more cells", style="dim"))
        for label, progress in list(self.training.items()):
            lines.append(Text(f"{label}: {describe(progress)}"))
        left = "" if self.left is None else f", about {duration(self.left)} left"
        lines.append(Text(f"{self.done} of {len(self.stages)} stages{left}", style="bold"))
        return Group(*lines)

    def _rows(self) -> list[tuple[str, dict[StageKind, list[str]]]]:
        """Cells with the states of their stages by kind; what runs comes first, then what waits."""
        by_key = {stage.key: stage for stage in self.stages}
        cells: dict[str, dict[StageKind, list[str]]] = {}
        for stage in self.stages:
            name = f"{stage.network} {stage.spec.get('precision', '')}".strip()
            if "precision" not in stage.spec:  # the float network is that of every cell after it
                continue
            kinds = cells.setdefault(name, {})
            kinds.setdefault(stage.kind, []).append(self.states[stage.key])
            source = by_key.get(stage.inputs.get("float", ""))
            if source is not None and source.kind not in kinds:
                kinds[source.kind] = [self.states[source.key]]

        def order(row: tuple[str, dict[StageKind, list[str]]]) -> int:
            states = {state for found in row[1].values() for state in found}
            own = {state for kind, found in row[1].items() if kind is not TRAIN for state in found}
            if "running" in own:
                return 0
            return 1 if "waiting" in states else 2

        return sorted(cells.items(), key=order)


def _cell(states: Sequence[str]) -> Text:
    """The state of a cell's stages of one kind: the one that matters most."""
    for state in ("failed", "running", "waiting", "done", "cached"):
        if state in states:
            sign, style = _SIGNS[state]
            count = f" {states.count(state)}/{len(states)}" if len(states) > 1 else ""
            return Text(f"{sign}{count}", style=style)
    return Text("")


def _describe_outcome(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"failed: {outcome.stage.label}: {outcome.error}"
    return f"{'done' if outcome.produced else 'cached'}: {outcome.stage.label}"
