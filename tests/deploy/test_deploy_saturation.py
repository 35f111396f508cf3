"""Which weights can saturate, against a model of the instruction that does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.deploy import can_saturate


def _vpmaddubsw(activations, weights):
    """Sums of two neighbours' products, uint8 by int8, saturated to 16 bits."""
    products = activations.astype(np.int64) * weights.astype(np.int64)
    return np.clip(products.reshape(-1, 2).sum(1), -(2**15), 2**15 - 1)


@settings(max_examples=200)
@given(st.lists(st.integers(-128, 127), min_size=2, max_size=6))
def test_the_rule_is_right_for_every_order_of_one_channel(weights):
    """It is the worst pair in the worst order, with the activations that reach furthest."""
    worst = False
    for first, one in enumerate(weights):
        for other in weights[first + 1 :]:
            pair = np.array([one, other])
            for activations in (np.where(pair > 0, 255, 0), np.where(pair < 0, 255, 0)):
                exact = int((activations * pair).sum())
                worst = worst or int(_vpmaddubsw(activations, pair)[0]) != exact
    assert can_saturate(np.array([weights], np.int8)) == worst


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_of_seven_bits_or_less_are_safe(bits):
    widest = np.array([[-(2 ** (bits - 1))] * 2, [2 ** (bits - 1) - 1] * 2])
    assert can_saturate(widest) == (bits == 8)


def test_channels_are_summed_apart():
    apart = np.array([[127, 0], [127, 0]])  # a channel's own neighbours are zeros
    assert not can_saturate(apart, 0)
    assert can_saturate(apart, 1)
    assert can_saturate(apart, None)
    assert not can_saturate(np.zeros((3, 0)))
