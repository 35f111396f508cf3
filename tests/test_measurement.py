"""Measurements: intervals against their definitions solved numerically, and against resampling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.measurement import Measurement, average, loss, proportion, resampled, wilson


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
def test_the_interval_of_a_share_is_where_the_score_test_turns(counts):
    correct, total = counts
    low, high = wilson(correct, total)
    assert low == pytest.approx(_solved(correct, total, 0.0), abs=1e-9)
    assert high == pytest.approx(_solved(correct, total, 1.0), abs=1e-9)


@given(st.integers(1, 5000))
def test_none_and_all_right_stay_within_0_and_1(total):
    assert wilson(0, total)[0] == pytest.approx(0.0, abs=1e-15)
    assert wilson(total, total)[1] == pytest.approx(1.0)
    assert wilson(total, total)[1] <= 1.0


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="is no share"):
        wilson(*counts)


def test_it_reads_as_value_and_interval():
    assert str(proportion("accuracy", [True, False] * 50)) == "50.00 % [40.38, 59.62]"
    assert str(Measurement("PSNR", 31.256, 30.9, 31.5, 8, "dB")) == "31.26 dB [30.90, 31.50]"


def _pairs(both, lost, gained, neither):
    before = [True] * both + [True] * lost + [False] * gained + [False] * neither
    after = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return proportion("accuracy", before), proportion("accuracy", after)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table III, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((0, 97, 0, 3), None, None),
    ],
)
def test_a_paired_interval_holds_the_difference(counts, low, high):
    found = loss(*_pairs(*counts))
    _, b, c, _ = counts
    assert found.value == pytest.approx((b - c) / sum(counts))
    assert found.low < found.value < found.high or b == sum(counts)
    if low is not None:
        assert found.low == pytest.approx(low, abs=2e-4)
        assert found.high == pytest.approx(high, abs=2e-4)


def test_the_paired_interval_holds_the_truth_95_times_in_100():
    generator = np.random.default_rng(0)
    shares = np.array([0.86, 0.03, 0.015, 0.095])  # both, lost, gained, neither
    truth, held, trials = shares[1] - shares[2], 0, 2000
    for counts in generator.multinomial(500, shares, trials):
        found = loss(*_pairs(*counts.tolist()))
        held += found.low <= truth <= found.high
    assert 0.935 < held / trials < 0.985


def test_flips_are_kept_by_the_number_of_their_image():
    found = loss(
        proportion("accuracy", [True, True, False, False]),
        proportion("accuracy", [True, False, True, False]),
    )
    assert (found.value, found.lost, found.gained) == (0.0, (1,), (2,))


def test_the_same_networks_lose_nothing_and_the_interval_says_so():
    one = proportion("accuracy", [True] * 4500 + [False] * 500)
    found = loss(one, one)
    assert found.value == 0
    assert -0.001 < found.low <= 0 <= found.high < 0.001


def test_a_mean_has_the_interval_of_the_normal_distribution_where_images_are_many():
    scores = np.random.default_rng(1).normal(30, 3, 4000)
    found = average("PSNR", scores, unit="dB")
    error = 1.96 * scores.std() / math.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(scores.mean() + error, abs=0.1 * error)
    assert not found.counted


def test_pairs_are_far_nearer_than_the_two_intervals():
    generator = np.random.default_rng(2)
    scores = generator.normal(30, 3, 2000)
    worse = scores - 0.2 + generator.normal(0, 0.3, 2000)
    before, after = average("PSNR", scores, unit="dB"), average("PSNR", worse, unit="dB")
    found = loss(before, after)
    error = 1.96 * (scores - worse).std() / math.sqrt(len(scores))
    assert found.value == pytest.approx((scores - worse).mean())
    assert found.high - found.low == pytest.approx(2 * error, rel=0.1)
    assert before.high - before.low > 5 * (found.high - found.low)


def test_where_less_is_better_a_loss_is_still_a_loss():
    before = average("error", np.linspace(0, 1, 50), higher_is_better=False)
    after = average("error", np.linspace(0, 1, 50) + 0.1, higher_is_better=False)
    assert loss(before, after).value == pytest.approx(0.1)


def test_a_quality_of_the_whole_set_is_resampled_by_weights():
    inter, union = np.arange(1.0, 101), np.full(100, 200.0)
    found = resampled("mIoU", lambda w: (w @ inter) / (w @ union), 100, unit="share")
    assert found.value == pytest.approx(inter.sum() / union.sum())
    assert found.low < found.value < found.high
    assert not found.counted


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="accuracy of 2 images and accuracy of 1"):
        loss(proportion("accuracy", [True, True]), proportion("accuracy", [True]))
    with pytest.raises(ValueError, match="there are no images"):
        average("PSNR", [])
    with pytest.raises(ValueError, match="not finite"):
        average("PSNR", [1.0, float("nan")])
