"""A run's loop with workers of its own: what is tried again, what is not, what others make."""

from collections import Counter

import pytest
from filelock import FileLock

from bitladder.errors import StoreError
from bitladder.options import LoaderOptions
from bitladder.pipeline import loop
from bitladder.pipeline.execute import Execution, Outcome
from bitladder.pipeline.planning import plan
from bitladder.pipeline.workers import InProcess
from bitladder.store import Store, registered
from bitladder.study import load
from small_study import Recorder

CELLS = plan(load(None, ["precisions=[8,4]", "recipe=ptq"]))  # 1 train, 2 of each other kind


class Workers(InProcess):
    """Makes empty outputs; ``fails`` says what goes wrong how often with a kind or a label."""

    def __init__(self, execution, fails=None):
        super().__init__(execution, lambda label, progress: None)
        self.store, self.fails = Store(execution.store), dict(fails or {})
        self.calls = Counter()

    def start(self, stage, *, priority):
        self.calls[stage.kind.name] += 1
        name = stage.label if stage.label in self.fails else stage.kind.name
        error, times, again = self.fails.get(name, ("", 0, False))
        if times:
            self.fails[name] = (error, times - 1, again)
            self._ended.append(Outcome(stage, None, error=error, again=again))
            return
        about = {"kind": stage.kind.name, "label": stage.label, "network": stage.network}
        output = self.store.make(
            stage.key, lambda folder: (folder / "record.json").write_text("{}"), **about
        )
        self._ended.append(Outcome(stage, output.folder, output.produced))


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Run the cells with workers that fail; returns (outcomes, workers, observer, saved)."""

    def run(fails=None, save=None):
        execution = Execution(tmp_path, LoaderOptions(), in_process=True)
        workers, observer, saved = Workers(execution, fails), Recorder(), []
        monkeypatch.setattr(loop, "_workers", lambda *arguments: workers)
        (tmp_path / "out").mkdir(exist_ok=True)
        outcomes = loop.execute_all(
            "s", CELLS, tmp_path / "out", execution, observer=observer, save=save or saved.append
        )
        return outcomes, workers, observer, saved

    return run


def test_every_stage_runs_once_and_then_comes_from_the_store(attempt, tmp_path):
    outcomes, workers, _, _ = attempt()
    assert workers.calls == {"train": 1, "quantize": 2, "export": 2, "verify": 2}
    assert all(outcome.produced for outcome in outcomes.values())
    again, workers, observer, _ = attempt()
    assert not workers.calls
    assert [outcome.produced for outcome in observer.outcomes] == [False] * 7
    assert again.keys() == outcomes.keys()
    [run] = registered(Store(tmp_path))  # the second took the place of the first
    assert set(run.stages) == set(outcomes)


def test_a_fault_of_the_environment_is_tried_twice_more(attempt):
    outcomes, workers, observer, _ = attempt({"train": ("train: the worker died", 2, True)})
    assert workers.calls["train"] == 3
    assert not any(outcome.error for outcome in outcomes.values())
    assert [text.partition(":")[0] for text in observer.said] == [
        "attempt 2 of 3", "attempt 3 of 3",
    ]  # fmt: skip


def test_a_fault_that_stays_fails_the_cells_that_need_it(attempt):
    label = CELLS[0].stages[1].label
    outcomes, workers, _, _ = attempt({label: ("quantize: disk full", 3, True)})
    assert workers.calls["quantize"] == 4  # three for the first cell, one for the second
    failed = [outcome for outcome in outcomes.values() if outcome.error]
    assert [outcome.stage.kind.name for outcome in failed] == ["quantize", "export", "verify"]
    assert {outcome.error for outcome in failed} == {"quantize: disk full"}


def test_a_fault_of_the_input_is_not_tried_again(attempt):
    _, workers, _, _ = attempt({"train": ("train: not a number", 1, False)})
    assert workers.calls == {"train": 1}


def test_what_another_run_makes_is_waited_for_and_not_made_twice(attempt, tmp_path, monkeypatch):
    store, stage = Store(tmp_path), CELLS[0].stages[0]
    other = FileLock(store.lock(stage.key))

    def start(self, stage, *, priority):
        if not store.is_locked(stage.key):
            return real(self, stage, priority=priority)
        self._ended.append(Outcome(stage, None, busy=True))
        monkeypatch.setattr(Workers, "ended", finish_elsewhere)
        return None

    def finish_elsewhere(self, timeout):
        monkeypatch.setattr(Workers, "ended", InProcess.ended)
        found = InProcess.ended(self, 0)
        other.release()
        store.make(stage.key, lambda folder: (folder / "record.json").write_text("{}"))
        return found

    real = Workers.start
    monkeypatch.setattr(Workers, "start", start)
    other.acquire()
    outcomes, _, observer, _ = attempt()
    assert f"another run makes it: {stage.label}" in observer.said
    assert not outcomes[stage.key].produced
    assert [made.kind for made in store.journal.read()].count("train") == 0  # it was not this run


def test_damage_is_said_and_mended(attempt, tmp_path):
    attempt()
    stage = CELLS[1].stages[1]
    (tmp_path / "stages" / stage.key / "record.json").write_text("[")
    outcomes, workers, observer, _ = attempt()
    assert workers.calls == {"quantize": 1}
    assert outcomes[stage.key].produced
    assert observer.said == [
        f"damaged: {stage.label}: record.json is damaged; it is made again",
    ]


def test_results_that_cannot_be_saved_meanwhile_do_not_end_the_run(attempt, monkeypatch):
    def full(outcomes):
        raise StoreError("results.csv: cannot write")

    monkeypatch.setattr(loop, "_TICK", 0.0)
    outcomes, _, observer, _ = attempt(save=full)
    assert len(outcomes) == 7
    assert any("results not saved" in text for text in observer.said)


def test_an_interrupted_run_saves_what_it_has(attempt, monkeypatch):
    def interrupt(self, stage, *, priority):
        if stage.kind.name == "export":
            raise KeyboardInterrupt
        return real(self, stage, priority=priority)

    real, saved = Workers.start, []
    monkeypatch.setattr(Workers, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attempt(save=lambda outcomes: saved.append(len(outcomes)))
    assert saved[-1] >= 2


def test_results_are_saved_seldom_where_saving_takes_long(attempt):
    _, _, _, saved = attempt()
    assert len(saved) <= 2  # stages that take no time; the end is saved by who asked
