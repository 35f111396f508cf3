"""A Dask cluster on this machine: worker processes of one thread, with a memory limit each."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from bitladder.errors import StudyError

_CLOSING = 1.0  # seconds that an interrupted cluster may take to close


@contextmanager
def local_cluster(
    jobs: int | None, memory: str | None, resources: Mapping[str, float], stages: int
) -> Iterator[tuple[Any, str]]:
    """Start worker processes; where an error ends the block, kill them.

    Args:
        jobs: how many, or None for one a core.
        memory: limit of each, such as ``4GB``, or None for an equal share of all there is.
        resources: Dask resources that each has.
        stages: more workers than that are not started.

    Yields:
        The cluster, and what a person may want to know of it.

    Raises:
        StudyError: the memory limit is not one.
    """
    import dask
    from dask.utils import format_bytes
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the run says what matters
    workers = min(jobs or os.cpu_count() or 1, stages)
    limit = _memory_limit(memory, workers)
    with dask.config.set(_SETTINGS):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=limit,
            resources=dict(resources),
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        )
        try:
            name = "worker" if workers == 1 else "workers"
            yield cluster, f"{workers} {name} of one thread and {format_bytes(limit)} memory each"
        except BaseException:
            _kill(cluster)
            with suppress(Exception):
                cluster.close(timeout=_CLOSING)
            raise
        cluster.close()


def dask_setup(worker: Any) -> None:
    """Dask calls this in every worker: Ctrl-C is for the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


WORKER_ENVIRONMENT: Mapping[str, str] = {
    # One thread a process fills the cores best; a second one in the same process collapses
    # when the other core is busy.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc gives the memory of a layer back and takes it again a moment later, a page at a time.
    # That it keeps it, in large pages, saves up to a sixth of a step of training.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Of worker processes; a variable that is set already stays."""

_SETTINGS: Mapping[str, Any] = {
    "distributed.nanny.pre-spawn-environ": dict(WORKER_ENVIRONMENT),
    # A stage's memory is its own, not Dask's to spill; a worker over its limit is ended.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.daemon": False,  # image folders are decoded by child processes
    "distributed.worker.preload": [__name__],
    "distributed.worker.profile.enabled": False,  # it looks into a stage 100 times a second
    "distributed.scheduler.allowed-failures": 0,  # attempts are counted by the run
    "distributed.scheduler.worker-ttl": None,  # a long computation is no sign of death
    "distributed.comm.timeouts.connect": "60s",
    # A worker that died is started again, however long the libraries take to load; Dask would
    # give it up after 15 s, and with the last worker the run would stand still.
    "distributed.deploy.lost-worker-timeout": "1h",
}


def _memory_limit(memory: str | None, workers: int) -> int:
    from dask.utils import parse_bytes
    from distributed.system import MEMORY_LIMIT

    if memory is None:
        return int(MEMORY_LIMIT) // workers
    try:
        limit = int(parse_bytes(memory))
    except ValueError:
        limit = 0
    if limit <= 0:
        raise StudyError(f"--memory {memory}: not a size, such as 4GB")
    return limit


def _kill(cluster: Any) -> None:
    """End every worker with its children, whatever it is computing; nothing is half-written."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # it is not to start another one
        with suppress(psutil.Error, TypeError):
            worker = psutil.Process(nanny.pid)
            for process in [*worker.children(recursive=True), worker]:
                process.kill()
