"""Run the stages of a study: what the store has is not run, what failed is tried again.

A stage that fails takes only the cells that need it; its outcome carries the reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bitladder.errors import StoreError
from bitladder.pipeline.execute import Execution, Observer, Outcome
from bitladder.pipeline.planning import Cell, Stage
from bitladder.pipeline.results import result_of
from bitladder.pipeline.schedule import Queue, estimate
from bitladder.pipeline.search import decide, saved
from bitladder.pipeline.stage_records import Record
from bitladder.pipeline.workers import InProcess, Workers
from bitladder.progress import Progress
from bitladder.store import Store, registering

_RETRIES = 2
_TICK = 1.0  # seconds between two looks at what does not report by itself
_SAVING = 0.05  # share of a run's time that may go into saving the results so far


def execute_all(
    study: str,
    cells: Sequence[Cell],
    output: Path,
    execution: Execution,
    *,
    observer: Observer,
    save: Callable[[Mapping[str, Outcome]], object],
    within: float | None = None,
) -> dict[str, Outcome]:
    """Run every stage once and return the outcomes by key.

    Args:
        study: name of the study.
        cells: its cells; stages that they share run once.
        output: folder of the results.
        execution: where and on what stages are executed.
        observer: told what happens.
        save: called with the outcomes so far while stages run, and when the run is broken off.
        within: loss that is allowed where the narrowest precision is searched (see ``search``), or
            None to run every cell.
    """
    stages = list({stage.key: stage for cell in cells for stage in cell.stages}.values())
    store = Store(execution.store)
    labels = {stage.key: stage.label for stage in stages}
    with registering(store, study, output, labels) as registration:
        observer.begin(stages)
        run = _Run(stages, store, observer, save, None if within is None else (cells, within))
        try:
            run.find()
            if len(run.queue):
                with _workers(execution, registration, len(run.queue), run.hear) as workers:
                    run.work(workers)
        except BaseException:
            run.save_now()
            raise
    return run.outcomes


def _workers(
    execution: Execution,
    registration: Path,
    stages: int,
    hear: Callable[[str, Progress], None],
) -> InProcess | Workers:
    if execution.in_process:
        return InProcess(execution, hear)
    from bitladder.pipeline.dask_workers import DaskWorkers

    return DaskWorkers(execution, registration, stages, hear)


class _Run:
    """The state of a run: what waits, what runs, what became of the rest."""

    def __init__(
        self,
        stages: Sequence[Stage],
        store: Store,
        observer: Observer,
        save: Callable[[Mapping[str, Outcome]], object],
        search: tuple[Sequence[Cell], float] | None = None,
    ) -> None:
        self._search = search
        self.stages, self.store, self.observer = stages, store, observer
        self.outcomes: dict[str, Outcome] = {}
        self.seconds = estimate(stages, store.journal.read())
        self.queue = Queue([], self.seconds)
        self.running: dict[str, tuple[Stage, float]] = {}
        self.elsewhere: dict[str, Stage] = {}
        self.failures: Counter[str] = Counter()
        self.training: dict[str, float] = {}
        self._save = save
        self._saved = self._saving = self._told = 0.0
        self._said = self._found = False
        self._read: dict[str, Record] = {}
        self._unsaved = False

    def find(self) -> None:
        """Take from the store what is there; the rest waits."""
        missing = []
        for stage in self.stages:
            folder = self.store.get(stage.key)
            if folder is not None:
                self._finish(Outcome(stage, folder))
                continue
            missing.append(stage)
            if self.store.has(stage.key):
                damage = self.store.damage(stage.key)
                self.observer.message(f"damaged: {stage.label}: {damage}; it is made again")
        self.queue = Queue(missing, self.seconds)
        self._found = True
        self._choose()

    def _choose(self) -> None:
        """Of a search: hold back what waits for an answer, and drop what is not needed."""
        if self._search is None or not self._found:
            return
        cells, within = self._search
        found = decide(cells, within, lambda cell: result_of(cell, self.outcomes, self._read))
        wanted = {key for cell in found.wanted for key in cell.keys}
        self.queue.hold(wanted)
        if not self.queue.open and not self.running and not self.elsewhere:
            self.queue.clear()
            if found.dropped and not self._said:
                self._said = True
                self.observer.message(saved(found.dropped, self.outcomes, self.seconds))

    def work(self, workers: Workers) -> None:
        """Run what waits until nothing does."""
        for text in workers.describe():
            self.observer.message(text)
        while self.queue or self.running or self.elsewhere:
            self._start(workers)
            for outcome in workers.ended(_TICK if self.running or self.elsewhere else 0.0):
                self._end(outcome)
            self._look_elsewhere()
            self._tell(workers)
            self._save_if_due()

    def hear(self, label: str, progress: Progress) -> None:
        """A stage says how far its training is; what comes late, after its end, is left out."""
        if label not in {stage.label for stage, _ in list(self.running.values())}:
            return
        self.training[label] = progress.seconds_left
        self.observer.progress(label, progress)

    def save_now(self) -> None:
        """Save the outcomes so far; a full disk is told, and what was saved before stays whole."""
        started = time.perf_counter()
        try:
            self._save(self.outcomes)
        except StoreError as error:
            self.observer.message(f"results not saved: {error}")
        self._saved = time.perf_counter()
        self._saving, self._unsaved = self._saved - started, False

    def _start(self, workers: Workers) -> None:
        while len(self.running) < workers.slots():
            stage = self.queue.take(self.outcomes)
            if stage is None:
                return
            failed = [self.outcomes[key] for key in stage.inputs.values()]
            error = next((outcome.error for outcome in failed if outcome.error), None)
            if error is not None:
                self._finish(Outcome(stage, None, error=error))
                continue
            self.running[stage.key] = (stage, time.perf_counter())
            self.observer.started(stage)
            workers.start(stage, priority=self.queue.to_the_end[stage.key])

    def _end(self, outcome: Outcome) -> None:
        stage = outcome.stage
        del self.running[stage.key]
        self.training.pop(stage.label, None)
        if outcome.busy:
            self.observer.put_back(stage)
            self.observer.message(f"another run makes it: {stage.label}")
            self.elsewhere[stage.key] = stage
        elif outcome.again and self.failures[stage.key] < _RETRIES:
            self.failures[stage.key] += 1
            self.observer.put_back(stage)
            attempt = f"attempt {self.failures[stage.key] + 1} of {_RETRIES + 1}"
            self.observer.message(f"{attempt}: {stage.label}: {outcome.error}")
            self.queue.put_back(stage)
        else:
            self._finish(outcome)

    def _look_elsewhere(self) -> None:
        """What another run made, or has let go of, has its turn again."""
        for key, stage in list(self.elsewhere.items()):
            if not self.store.is_locked(key):
                del self.elsewhere[key]
                self.queue.put_back(stage)

    def _finish(self, outcome: Outcome) -> None:
        self.outcomes[outcome.stage.key] = outcome
        self._unsaved = True
        self.observer.finished(outcome)
        self._choose()

    def _tell(self, workers: Workers) -> None:
        now = time.perf_counter()
        if now - self._told < _TICK:
            return
        self._told = now
        running = {
            key: self.training.get(stage.label, max(0.0, self.seconds[key] - now + started))
            for key, (stage, started) in self.running.items()
        }
        self.observer.time_left(self.queue.seconds_left(running, workers.slots()))

    def _save_if_due(self) -> None:
        since = time.perf_counter() - self._saved
        if self._unsaved and since > max(_TICK, self._saving / _SAVING):
            self.save_now()
