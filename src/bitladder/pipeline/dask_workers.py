"""Stages on Dask workers: those of a cluster on this machine, or of one that is there already.

What a worker needs comes with each stage, and nothing that a later one needs stays with it, so a
worker that dies takes nothing with it but the stage it was at.
"""

from __future__ import annotations

import functools
import queue
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bitladder.errors import StudyError
from bitladder.pipeline.execute import Execution, Outcome, execute
from bitladder.pipeline.local_cluster import local_cluster
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.versions import Versions
from bitladder.pipeline.workers import Hear
from bitladder.progress import Progress
from bitladder.store import Store
from bitladder.user_code import one_line

_GONE = "the Dask scheduler is gone; run again to continue"
_BATCHING = 0.001  # seconds in which messages to the scheduler are gathered; Dask has 0.01
_RECOUNT = 1.0  # seconds after which workers are counted again


class DaskWorkers:
    """Dask workers.

    Args:
        execution: where the store and the data sets are, and which workers.
        registration: the run's file in the store, by which a worker sees that it is the same store.
        stages: how many are to run; more workers than that are not started.
        hear: told the label and the progress of a stage that trains.

    Raises:
        StudyError: there is no scheduler at the address, or the memory limit is not one.
    """

    def __init__(self, execution: Execution, registration: Path, stages: int, hear: Hear) -> None:
        self.execution, self.registration, self.hear = execution, registration, hear
        self.stages, self.store = stages, Store(execution.store)
        self.client: Any = None
        self._topic = f"bitladder-{uuid.uuid4().hex}"  # others may use the same scheduler
        self._futures: dict[Any, Stage] = {}
        self._ended: list[Any] = []
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._over_limit: set[str] = set()
        self._workers, self._counted = "", 0.0
        self._slots = 1
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.client = self._stack.enter_context(self._connected())
        self.client.scheduler_comm.interval = _BATCHING
        self.client.subscribe_topic(self._topic, self._heard)
        self.client.subscribe_topic("worker-restart-memory", self._restarted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.execution.scheduler is not None:
            self.client.cancel(list(self._futures), force=True)
        self._stack.__exit__(kind, error, trace)

    def describe(self) -> Iterable[str]:
        """The workers, and the address of Dask's dashboard."""
        yield self._workers
        yield f"Dask dashboard: {self.client.dashboard_link}"

    def slots(self) -> int:
        """One a thread of the workers; where workers differ by resources, Dask sorts it out.

        Raises:
            StudyError: the scheduler is gone.
        """
        if self.execution.resources:
            return self.stages
        if time.monotonic() - self._counted > _RECOUNT:
            try:
                self._slots = max(1, sum(self.client.nthreads().values()))
            except OSError:
                raise StudyError(_GONE) from None
            self._counted = time.monotonic()
        return self._slots

    def start(self, stage: Stage, *, priority: float) -> None:
        """Give a stage to Dask."""
        future = self.client.submit(
            _on_worker,
            stage,
            self.execution.store,
            self.execution.loader,
            self.registration,
            self._topic,
            key=f"{stage.kind.name}-{stage.key[:16]}-{uuid.uuid4().hex}",
            pure=False,
            priority=priority,
            resources=dict(self.execution.resources) if stage.kind.trains else None,
        )
        self._futures[future] = stage
        future.add_done_callback(self._done.put)
        # Letting go of a future sends a message; the stage's own goes first.
        self._ended.clear()

    def ended(self, timeout: float) -> list[Outcome]:
        """The outcomes of the stages that have ended; those of dead workers may be tried again.

        Raises:
            StudyError: the scheduler is gone.
        """
        done = []
        with suppress(queue.Empty):
            done.append(self._done.get(timeout=timeout))
            while True:
                done.append(self._done.get_nowait())
        if self.client.status not in ("running", "connecting"):
            raise StudyError(_GONE)
        self._ended += done
        return [self._outcome(future, self._futures.pop(future)) for future in done]

    def _outcome(self, future: Any, stage: Stage) -> Outcome:
        from distributed import KilledWorker

        if future.status == "finished":
            return Outcome(stage, self.store.stages / stage.key, produced=True)
        error = future.exception() if future.status == "error" else None
        if isinstance(error, OtherOutcome):
            return error.outcome
        if not isinstance(error, KilledWorker):
            text = one_line(error) if error is not None else "Dask lost the stage"
            return Outcome(stage, None, error=f"{stage.kind.name}: {text}", again=error is None)
        if error.last_worker.address in self._over_limit:
            text = (
                "out of memory: the worker went over its limit and was ended; raise it with "
                "--memory, or run fewer at once with --jobs"
            )
        else:
            text = "the worker died: killed from outside, out of memory, or crashed"
        return Outcome(stage, None, error=f"{stage.kind.name}: {text}", again=True)

    def _heard(self, event: tuple[float, Any]) -> None:
        self.hear(event[1]["label"], Progress(**event[1]["progress"]))

    def _restarted(self, event: tuple[float, Any]) -> None:
        self._over_limit.add(event[1]["worker"])

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        from distributed import Client

        address = self.execution.scheduler
        if address is None:
            with local_cluster(
                self.execution.jobs, self.execution.memory, self.execution.resources, self.stages
            ) as (cluster, described):
                self._workers = described
                with Client(cluster, set_as_default=False) as client:
                    yield client
            return
        try:
            client = Client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StudyError(f"--scheduler {address}: no Dask scheduler there: {error}") from None
        with client:
            threads = sum(client.nthreads().values())
            self._workers = f"Dask scheduler {address}: {threads} worker threads"
            yield client


class OtherOutcome(Exception):  # noqa: N818
    """What became of a stage that did not just make its output.

    The usual outcome is told by the stage's end alone: a value that a worker returns would have
    to be fetched from it, which takes longer than all else that Dask does for a stage.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def _on_worker(*given: Any) -> None:
    """Execute a stage on a worker.

    Raises:
        OtherOutcome: its output was not made, or not by this worker.
    """
    from distributed import get_worker

    outcome = _execute(*given)
    if get_worker().state.nthreads == 1:  # or another stage may be tracing at this moment
        _traces().forget()
    if not outcome.produced:
        raise OtherOutcome(outcome)


@functools.cache
def _traces() -> Any:
    from bitladder.pipeline.traces import Traces

    return Traces()


def _execute(
    stage: Stage,
    store: Path,
    loader: Any,
    registration: Path,
    topic: str,
) -> Outcome:
    """Execute a stage where there is what its key was made with."""
    from distributed import get_worker

    worker = get_worker()
    found = Versions().of(stage.kind, stage.spec)
    for name in sorted({*stage.versions, *found}):
        has, needs = found.get(name, "not set"), stage.versions.get(name, "not set")
        if has != needs:
            text = f"worker {worker.address} has {name} {has}, the study needs {needs}"
            return Outcome(stage, None, error=f"{stage.kind.name}: {text}")
    if not registration.exists():
        text = f"worker {worker.address} does not see the store {store}; give a shared --store"
        return Outcome(stage, None, error=f"{stage.kind.name}: {text}")
    return execute(
        stage,
        store,
        loader,
        lambda progress: worker.log_event(
            topic, {"label": stage.label, "progress": asdict(progress)}
        ),
    )
