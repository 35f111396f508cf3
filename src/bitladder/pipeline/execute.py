"""Run stages in the order of their inputs, on Dask workers of one thread each or in this process.

A stage that fails takes only the cells that need it; its outcome carries the reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitladder.errors import BitladderError, StudyError
from bitladder.options import LoaderOptions
from bitladder.pipeline.graph import Cell, Stage
from bitladder.progress import Progress
from bitladder.store import Store
from bitladder.user_code import one_line

_TOPIC = "bitladder"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: the stage.
        folder: its output in the store, or None if it failed.
        produced: False where the store had the output already.
        error: why it failed, one line.
    """

    stage: Stage
    folder: Path | None
    produced: bool = False
    error: str | None = None


class Observer:
    """Told what happens during a run; override what is of interest."""

    def begin(self, stages: Sequence[Stage]) -> None:
        """The run begins with these stages."""

    def progress(self, label: str, progress: Progress) -> None:
        """A stage trains."""

    def finished(self, outcome: Outcome) -> None:
        """A stage is complete, was in the store, or failed."""

    def message(self, text: str) -> None:
        """Something a person may want to know, such as the dashboard's address."""


def execute_all(
    cells: Sequence[Cell],
    store: Path,
    loader: LoaderOptions,
    *,
    jobs: int | None,
    in_process: bool,
    scheduler: str | None,
    observer: Observer,
    save: Callable[[dict[str, Outcome]], object],
) -> dict[str, Outcome]:
    """Run every stage once and return the outcomes by key.

    Args:
        cells: the study's cells; stages they share run once.
        store: the store's folder, an absolute path that every worker sees.
        loader: where data sets are found.
        jobs: local worker processes, or None for one a core.
        in_process: run here, one stage after the other.
        scheduler: address of a Dask scheduler, or None for a local cluster.
        observer: told what happens.
        save: called with the outcomes so far whenever a stage has ended.
    """
    stages = list({stage.key: stage for cell in cells for stage in cell.stages}.values())
    observer.begin(stages)
    outcomes: dict[str, Outcome] = {}
    run = _here if in_process else _on_dask
    for outcome in run(stages, store, loader, jobs, scheduler, observer):
        outcomes[outcome.stage.key] = outcome
        observer.finished(outcome)
        save(outcomes)
    return outcomes


def execute(
    stage: Stage,
    store: Path,
    loader: LoaderOptions,
    inputs: Sequence[Outcome],
    report: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run one stage, unless the store has its output or one of its inputs failed."""
    for source in inputs:
        if source.error is not None:
            return Outcome(stage, None, error=source.error)
    from bitladder.pipeline.stages import Bench, perform

    shelf = Store(store)
    try:
        with _flushed_denormals():
            folder, produced = shelf.make(
                stage.key, lambda output: perform(stage, Bench(shelf, loader, report), output)
            )
    except BitladderError as error:
        return Outcome(stage, None, error=f"{stage.kind}: {error}")
    except Exception as error:  # a bug or the environment: the other cells go on
        return Outcome(stage, None, error=f"{stage.kind}: {one_line(error)}")
    return Outcome(stage, folder, produced)


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Have the processor take denormals for zero, which is faster; leave it as it was."""
    import torch

    smallest = sys.float_info.min
    before = smallest / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _here(
    stages: Sequence[Stage],
    store: Path,
    loader: LoaderOptions,
    jobs: int | None,
    scheduler: str | None,
    observer: Observer,
) -> Iterator[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for stage in stages:  # inputs come before what needs them

        def report(progress: Progress, label: str = stage.label) -> None:
            observer.progress(label, progress)

        inputs = [outcomes[key] for key in stage.inputs.values()]
        outcomes[stage.key] = execute(stage, store, loader, inputs, report)
        yield outcomes[stage.key]


def _on_dask(
    stages: Sequence[Stage],
    store: Path,
    loader: LoaderOptions,
    jobs: int | None,
    scheduler: str | None,
    observer: Observer,
) -> Iterator[Outcome]:
    from distributed import as_completed

    with _client(jobs or os.cpu_count() or 1, scheduler) as client:
        observer.message(f"Dask dashboard: {client.dashboard_link}")

        def heard(event: tuple[float, Any]) -> None:
            label, progress = event[1]["label"], event[1]["progress"]
            observer.progress(label, Progress(**progress))

        client.subscribe_topic(_TOPIC, heard)
        futures: dict[str, Any] = {}
        for stage in stages:
            futures[stage.key] = client.submit(
                _on_worker,
                stage,
                store,
                loader,
                [futures[key] for key in stage.inputs.values()],
                key=f"{stage.kind}-{stage.key}",
                pure=False,
            )
        by_key = {future.key: stage for stage, future in zip(stages, futures.values(), strict=True)}
        for future in as_completed(futures.values()):
            if future.status == "finished":
                yield future.result()
            else:  # the worker died, more often than Dask retries
                stage = by_key[future.key]
                error = f"{stage.kind}: {one_line(future.exception())}"
                yield Outcome(stage, None, error=error)


def _on_worker(
    stage: Stage, store: Path, loader: LoaderOptions, inputs: Sequence[Outcome]
) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    return execute(
        stage,
        store,
        loader,
        inputs,
        lambda progress: worker.log_event(
            _TOPIC, {"label": stage.label, "progress": asdict(progress)}
        ),
    )


@contextmanager
def _client(jobs: int, scheduler: str | None) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise StudyError(f"--scheduler {scheduler}: no Dask scheduler there: {error}") from None
        with client:
            yield client
        return
    settings: Mapping[str, Any] = {
        # One thread a process fills the cores best; a second one in the same process collapses
        # when the other core is busy.
        "distributed.nanny.pre-spawn-environ": {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        "distributed.worker.memory.spill": False,
        "distributed.worker.daemon": False,  # image folders are decoded by child processes
        "distributed.comm.timeouts.connect": "60s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=jobs, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
