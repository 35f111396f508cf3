"""One stage, executed here: what became of it, and who is told while it runs.

A stage computes on one thread. More threads sum in another order, so their number would change
the last bits of a training and with them its result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bitladder.errors import BitladderError, StoreError
from bitladder.options import LoaderOptions
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.versions import kernel
from bitladder.progress import Progress
from bitladder.store import BusyError, Store
from bitladder.user_code import one_line


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: the stage.
        folder: its output in the store, or None if it failed.
        produced: False where the store had the output already.
        error: why it failed, one line.
        again: the failure is the environment's, so that another attempt may help.
        busy: nothing was done, since another run makes the output at this moment.
    """

    stage: Stage
    folder: Path | None
    produced: bool = False
    error: str | None = None
    again: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Execution:
    """Where and on what stages are executed; nothing here changes their outputs.

    Attributes:
        store: the store's folder, an absolute path that every worker sees.
        loader: where data sets are found.
        jobs: local worker processes, or None for one a core.
        in_process: run here, one stage after the other.
        scheduler: address of a Dask scheduler, or None for a local cluster.
        memory: memory limit of a local worker, such as ``4GB``, or None for its share of it all.
        resources: Dask resources that training and fine-tuning ask of a worker.
    """

    store: Path
    loader: LoaderOptions
    jobs: int | None = None
    in_process: bool = False
    scheduler: str | None = None
    memory: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


class Observer:
    """Told what happens during a run; override what is of interest."""

    def begin(self, stages: Sequence[Stage]) -> None:
        """The run begins with these stages."""

    def started(self, stage: Stage) -> None:
        """A stage was given to a worker."""

    def progress(self, label: str, progress: Progress) -> None:
        """A stage trains."""

    def finished(self, outcome: Outcome) -> None:
        """A stage is complete, was in the store, or failed."""

    def put_back(self, stage: Stage) -> None:
        """A stage that was started runs later: again, or when another run has let go of it."""

    def time_left(self, seconds: float) -> None:
        """What the study still takes by the times of earlier stages, about once a second."""

    def message(self, text: str) -> None:
        """Something a person may want to know, such as the dashboard's address."""


def execute(
    stage: Stage,
    store: Path,
    loader: LoaderOptions,
    report: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run one stage, unless the store has its output or another process makes it."""
    from bitladder.pipeline.stages import perform
    from bitladder.pipeline.stages.common import Workspace

    try:
        shelf = Store(store)
        with _flushed_denormals(), _one_thread(), _as_in_a_new_process():
            output = shelf.make(
                stage.key,
                lambda folder: perform(stage, Workspace(shelf, loader, folder, report)),
                kind=stage.kind.name,
                label=stage.label,
                network=stage.network,
                wait=False,
            )
    except BusyError:
        return Outcome(stage, None, busy=True)
    except StoreError as error:
        return Outcome(stage, None, error=f"{stage.kind.name}: {error.told}", again=True)
    except BitladderError as error:
        return Outcome(stage, None, error=f"{stage.kind.name}: {error.told}")
    except Exception as error:  # a bug or the environment: the other cells go on
        memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        text = f"out of memory: {one_line(error)}" if memory else one_line(error)
        again = memory or isinstance(error, OSError)
        return Outcome(stage, None, error=f"{stage.kind.name}: {text}", again=again)
    return Outcome(stage, output.folder, output.produced)


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


_kernel: list[str] = []  # as the last stage of this process found it


@contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    """Compute as a worker would that has just begun, whatever this process has set before."""
    import torch

    from bitladder.simulation.kernel import library

    if [kernel()] != _kernel:  # it was turned off or on since
        library.cache_clear()
        _kernel[:] = [kernel()]
    number, product = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(number)
        torch.set_float32_matmul_precision(product)
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread; leave their number as it was."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
