"""Narrow grids in wider containers: two saturating quantizers are one narrow one, exactly."""

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.deploy import Encoding
from bitladder.deploy.onnx_graph import Graph, described
from bitladder.deploy.pairs import QuantizePairs

INPUT, OUTPUT = "input", "output"


@st.composite
def encodings(draw):
    bits = draw(st.integers(2, 16))
    signed = draw(st.booleans())
    low = -(2 ** (bits - 1)) if signed else 0
    zero_point = draw(st.integers(low, low + 2**bits - 1))
    scale = np.float32(draw(st.floats(2**-12, 2**6)))
    return Encoding("x", bits, signed, scale, np.asarray(zero_point, np.int64), None)


def _integers(encoding, values):
    found = np.rint(values / encoding.scale) + encoding.zero_point
    return np.clip(found, encoding.integer_min, encoding.integer_max)


def _real(encoding, values):
    return ((_integers(encoding, values) - encoding.zero_point) * encoding.scale).astype(np.float32)


def _run(grids, values):
    """Values through one grid after the other, as the optimised runtime has them."""
    graph = Graph()
    pairs = QuantizePairs(graph)
    source = INPUT
    for place, encoding in enumerate(grids):
        pairs.put(f"v{place}", source, encoding)
        source = pairs.read(f"v{place}")
    graph.rename(source, OUTPUT, 0)
    model = graph.model([described(INPUT, [1], [True])], [described(OUTPUT, [1], [True])])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {INPUT: values})[0]


@settings(max_examples=60, deadline=None)
@given(encodings(), st.integers(0, 2**32 - 1))
def test_an_activation_of_any_width_is_its_grid_in_the_optimised_runtime(encoding, seed):
    reach = float(encoding.scale) * 2**encoding.bits
    values = np.random.default_rng(seed).uniform(-reach, reach, 500).astype(np.float32)
    assert np.array_equal(_run([encoding], values), _real(encoding, values))


@settings(max_examples=60, deadline=None)
@given(encodings(), st.floats(0.3, 3), st.integers(0, 2**32 - 1))
def test_two_grids_in_a_row_are_both_there_in_the_optimised_runtime(first, factor, seed):
    scale = np.float32(first.scale * np.float32(factor))
    second = Encoding("y", first.bits, first.signed, scale, first.zero_point, None)
    reach = float(first.scale) * 2**first.bits
    values = np.random.default_rng(seed).uniform(-reach, reach, 500).astype(np.float32)
    assert np.array_equal(_run([first, second], values), _real(second, _real(first, values)))
