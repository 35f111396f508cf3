"""Precisions are read as people write them, and what is impossible is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.options import Precision

BITS = st.integers(2, 16)


@given(BITS, BITS, st.none() | BITS)
def test_text_and_value_are_the_same(weights, activations, edges):
    precision = Precision(weights, activations, edges)
    assert Precision.parse(str(precision)) == precision


@given(BITS)
def test_one_number_is_both(bits):
    assert Precision.parse(bits) == Precision.parse(f" {bits} ") == Precision(bits, bits)


@pytest.mark.parametrize("text", [1, 17, "w1a8", "w8a17", "w8", "a8", "8.0", "", "w8a8-edges1", -4])
def test_what_is_impossible_is_refused(text):
    with pytest.raises(ValueError, match="bits"):
        Precision.parse(text)
