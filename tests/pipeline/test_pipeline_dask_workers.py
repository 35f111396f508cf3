"""What became of a stage on a Dask worker arrives as it was, the usual outcome and any other."""

import pytest
from distributed import LocalCluster

from bitladder.options import LoaderOptions
from bitladder.pipeline import dask_workers
from bitladder.pipeline.dask_workers import DaskWorkers
from bitladder.pipeline.execute import Execution, Outcome
from bitladder.pipeline.planning import plan
from bitladder.store import Store
from bitladder.study import load

CELL = plan(load())[0]
MADE, FAILED, AGAIN, BUSY, FOUND, RAISED = range(6)


def _outcome(kind, stage, store):
    folder = Store(store).stages / stage.key
    return {
        MADE: Outcome(stage, folder, produced=True),
        FAILED: Outcome(stage, None, error="train: the loss is not a number"),
        AGAIN: Outcome(stage, None, error="train: No space left", again=True),
        BUSY: Outcome(stage, None, busy=True),
        FOUND: Outcome(stage, folder),
    }.get(kind)


@pytest.fixture(scope="module")
def address():
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None,
        silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address


@pytest.mark.parametrize("kind", [MADE, FAILED, AGAIN, BUSY, FOUND, RAISED])
def test_an_outcome_arrives_as_it_was(address, tmp_path, monkeypatch, kind):
    stage = CELL.stages[0]

    def execute(stage, store, *rest):
        if kind == RAISED:
            raise ValueError("a fault of our own")
        return _outcome(kind, stage, store)

    monkeypatch.setattr(dask_workers, "execute", execute)
    execution = Execution(tmp_path, LoaderOptions(), scheduler=address)
    with DaskWorkers(execution, tmp_path, 1, lambda label, progress: None) as workers:
        workers.start(stage, priority=1.0)
        [outcome] = workers.ended(60)
    if kind == RAISED:
        assert outcome == Outcome(stage, None, error="train: ValueError: a fault of our own")
    else:
        assert outcome == _outcome(kind, stage, tmp_path)
