"""Accuracy: the Wilson interval against its definition, solved numerically."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.accuracy import Accuracy


def _solved(correct, total, side):
    """The p at which ``correct`` is 1.96 standard errors off, found by bisection."""
    observed = correct / total

    def distance(p):
        error = math.sqrt(p * (1 - p) / total)
        return abs(observed - p) - 1.959963984540054 * error

    inside, outside = observed, side
    for _ in range(200):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if distance(middle) > 0 else (middle, outside)
    return inside


@given(st.integers(2, 5000).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_the_interval_is_where_the_score_test_turns(counts):
    correct, total = counts
    low, high = Accuracy(correct, total).interval
    assert low == pytest.approx(_solved(correct, total, 0.0), abs=1e-9)
    assert high == pytest.approx(_solved(correct, total, 1.0), abs=1e-9)


@given(st.integers(1, 5000))
def test_none_and_all_right_stay_within_0_and_1(total):
    assert Accuracy(0, total).interval[0] == pytest.approx(0.0, abs=1e-15)
    assert Accuracy(total, total).interval[1] == pytest.approx(1.0)
    assert Accuracy(total, total).interval[1] <= 1.0


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="is not an accuracy"):
        Accuracy(*counts)


def test_it_reads_as_value_and_interval():
    assert str(Accuracy(50, 100)) == "0.5000 [0.4038, 0.5962]"
