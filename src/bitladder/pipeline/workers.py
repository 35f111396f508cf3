"""Who executes stages: the interface of those that do, and this process itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from bitladder.pipeline.execute import Execution, Outcome, execute
from bitladder.pipeline.planning import Stage
from bitladder.progress import Progress

Hear = Callable[[str, Progress], None]


class Workers(Protocol):
    """Executes stages."""

    def __enter__(self) -> Self:
        """Begin work."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End work; at once, where an error ends it."""

    def describe(self) -> Iterable[str]:
        """What a person may want to know of it, in lines."""

    def slots(self) -> int:
        """How many stages it takes at once."""

    def start(self, stage: Stage, *, priority: float) -> None:
        """Execute a stage; of those that wait, the one with the highest priority first."""

    def ended(self, timeout: float) -> list[Outcome]:
        """The stages that have ended since the last call; waits up to ``timeout`` s for one."""


class InProcess:
    """This process, which executes a stage as soon as it is given one.

    Args:
        execution: where the store and the data sets are.
        hear: told the label and the progress of a stage that trains.
    """

    def __init__(self, execution: Execution, hear: Hear) -> None:
        self.execution, self.hear = execution, hear
        self._ended: list[Outcome] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from bitladder.pipeline.stages.common import forget_images

        forget_images()

    def describe(self) -> Iterable[str]:
        """Nothing."""
        return ()

    def slots(self) -> int:
        """One."""
        return 1

    def start(self, stage: Stage, *, priority: float) -> None:
        """Execute a stage to its end."""

        def report(progress: Progress) -> None:
            self.hear(stage.label, progress)

        self._ended.append(execute(stage, self.execution.store, self.execution.loader, report))

    def ended(self, timeout: float) -> list[Outcome]:
        """The stage that was executed, if one was."""
        if not self._ended:
            time.sleep(timeout)
        found, self._ended = self._ended, []
        return found
