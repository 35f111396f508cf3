"""The longest way goes first, and the time left is that of the longest way or of all the work."""

import pytest

from bitladder.pipeline.kinds import KINDS
from bitladder.pipeline.planning import Stage, plan
from bitladder.pipeline.schedule import Queue, estimate, longest_paths
from bitladder.store import Made
from bitladder.study import load


def _stage(key, *inputs, kind="train"):
    spec = {"dataset": {"name": "d"}, "model": {"name": "m"}}
    return Stage(KINDS[kind], key, f"{kind} {key}", spec, {name: name for name in inputs})


STAGES = [_stage("a"), _stage("b", "a"), _stage("c"), _stage("d", "b"), _stage("e", "c")]
SECONDS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 1.0}


def test_a_way_is_the_longest_of_all_that_need_the_stage():
    assert longest_paths(STAGES, SECONDS) == {"a": 7, "b": 6, "c": 4, "d": 4, "e": 1}


def test_ready_stages_come_by_the_length_of_their_way():
    queue, done, order = Queue(STAGES, SECONDS), {}, []
    while queue:
        stage = queue.take(done)
        order.append(stage.key)
        done[stage.key] = True
    assert order == ["a", "b", "c", "d", "e"]


def test_what_needs_a_stage_waits_for_it():
    queue = Queue(STAGES, SECONDS)
    assert [queue.take({}).key, queue.take({}).key] == ["a", "c"]
    assert queue.take({}) is None
    assert queue.take({"c": True}).key == "e"
    assert len(queue) == 2


def test_the_time_left_is_bounded_by_the_way_and_by_the_work():
    queue = Queue(STAGES, SECONDS)
    assert queue.seconds_left({}, workers=1) == 11
    assert queue.seconds_left({}, workers=100) == 7
    queue.take({})
    assert queue.seconds_left({"a": 0.5}, workers=100) == 6.5
    assert queue.seconds_left({"a": 0.5}, workers=1) == 10.5


def test_times_are_those_of_like_stages():
    def made(kind, network, seconds):
        return Made("k", kind, "", network, seconds)

    stages = [*STAGES[:1], _stage("q", "a", kind="quantize"), _stage("v", "q", kind="verify")]
    known = [made("train", "d m", s) for s in (1, 5, 90)] + [made("quantize", "other", 7)]
    found = estimate(stages, known)
    assert (found["a"], found["q"]) == (5, 7)
    assert found["v"] > 0  # a guess


def test_every_kind_of_a_study_has_a_time():
    stages = [stage for cell in plan(load()) for stage in cell.stages]
    assert all(seconds > 0 for seconds in estimate(stages, []).values())


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_left_takes_no_time(workers):
    assert Queue([], {}).seconds_left({}, workers) == 0
