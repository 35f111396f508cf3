"""Calibration in compiled code against AIMET's own: statistics and ranges, bit for bit."""

import contextlib

import pytest
import torch
from aimet_torch.nn import base
from aimet_torch.quantization.affine import QuantizeDequantize
from aimet_torch.quantization.encoding_analyzer import (
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)
from aimet_torch.utils import _DecompositionError
from hypothesis import given, settings
from hypothesis import strategies as st

from bitladder.options import Calibrate, Precision
from bitladder.simulation import SimulatedModel, ranges
from bitladder.simulation.kernel import (
    KernelUnavailableError,
    accelerate_analyzer,
    library,
    quantizer,
    rejecting_floats,
)
from bitladder.techniques.fold_batch_norm import fold_batch_norm

try:
    library()
except KernelUnavailableError as reason:
    pytest.skip(f"the kernel: {reason}", allow_module_level=True)

ANALYZERS = {
    "tf_enhanced": TfEnhancedEncodingAnalyzer,
    "mse": lambda shape: SqnrEncodingAnalyzer(shape, gamma=1.0),
    "percentile": lambda shape: PercentileEncodingAnalyzer(shape, percentile=99.9),
}


def _pair(kind, shape):
    ours, theirs = ANALYZERS[kind](shape), ANALYZERS[kind](shape)
    accelerate_analyzer(ours)
    assert type(ours.observer) is not type(theirs.observer)
    return ours, theirs


def _assert_same_statistics(ours, theirs):
    for found, wanted in zip(ours.observer.stats, theirs.observer.stats, strict=True):
        for name in ("histogram", "bin_edges", "min", "max"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name


@settings(max_examples=25)
@given(
    kind=st.sampled_from(list(ANALYZERS)),
    bits=st.sampled_from([2, 4, 8, 16]),
    symmetric=st.booleans(),
    rectified=st.booleans(),
    last=st.booleans(),
    growth=st.lists(st.floats(0.1, 8), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_batches_are_counted_and_ranges_found_as_aimet_does(
    kind, bits, symmetric, rectified, last, growth, seed
):
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = _pair(kind, ())
    for factor in growth:
        x = factor * torch.randn((3, 5, 6, 7), generator=generator)
        x = x.relu() if rectified else x
        x = x.contiguous(memory_format=torch.channels_last) if last else x
        ours.observer.observe(x)
        theirs.update_stats(x)
        _assert_same_statistics(ours, theirs)
    steps = 2**bits - 1
    found, wanted = (a.compute_encodings(steps, symmetric) for a in (ours, theirs))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("kind", ANALYZERS)
@pytest.mark.parametrize("shape", [(6, 1, 1, 1), (1, 5, 1, 1)])
def test_each_channel_is_counted_apart(kind, shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((6, 5, 3, 3), generator=generator)
    x *= torch.rand(shape, generator=generator)
    x[2], x[:, 3] = 0, 0.25  # a channel without a range, whichever way they run
    ours, theirs = _pair(kind, shape)
    for _ in range(2):  # a second batch, too
        ours.observer.observe(x)
        theirs.update_stats(x)
    _assert_same_statistics(ours, theirs)
    found, wanted = (a.compute_encodings(15, True) for a in (ours, theirs))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_values_that_are_not_finite_count_as_in_aimet():
    x = torch.randn(300, generator=torch.Generator().manual_seed(0))
    x[:4] = torch.tensor([float("inf"), -float("inf"), float("nan"), 7.0])
    ours, theirs = _pair("tf_enhanced", ())
    for values in (x, 2 * x, x.double(), x[::3]):
        ours.observer.observe(values)
        theirs.update_stats(values)
        _assert_same_statistics(ours, theirs)


def test_a_tie_is_broken_as_aimet_breaks_it():
    """Two values and a fine grid: many candidates lose next to nothing."""
    for scale in torch.linspace(0.1, 3, 40):
        ours, theirs = _pair("mse", ())
        x = torch.tensor([0.0, float(scale)] * 50)
        ours.observer.observe(x)
        theirs.update_stats(x)
        found, wanted = (a.compute_encodings(255, False) for a in (ours, theirs))
        assert torch.equal(torch.stack(found), torch.stack(wanted))


@pytest.mark.parametrize("method", ["sqnr", "mse", "percentile", "entropy", "min_max"])
def test_a_network_gets_the_ranges_that_aimets_own_code_gives(network, images, method, monkeypatch):
    def calibrated():
        options = Calibrate(method=method)
        folded, _ = fold_batch_norm(network)  # AIMET looks at the ranges of layers with a bias
        model = SimulatedModel(folded, Precision(4, 8), shape=(1, 12, 12), options=options)
        model.calibrate(images)
        return {info.name: (q.min, q.max) for info, q in model.quantizers()}

    ours = calibrated()
    monkeypatch.setattr(ranges, "accelerate_analyzer", lambda analyzer: None)
    own = QuantizeDequantize._compute_encodings
    monkeypatch.setattr(quantizer._fused_type(), "_compute_encodings", own)
    theirs = calibrated()
    for name, bounds in theirs.items():
        assert all(torch.equal(a, b) for a, b in zip(ours[name], bounds, strict=True)), name


def test_weights_on_a_grid_are_found_and_others_are_not():
    """AIMET's answer with the quick no in front and without, down to the scale."""
    own = base._decompose_prequantized_tensor
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(-7, 8, (12, 6, 3, 3), generator=generator).float()
    steps = torch.rand((12, 1, 1, 1), generator=generator) + 0.1
    floats = torch.randn((12, 6, 3, 3), generator=generator)
    mixed = torch.cat([integers[:6] * steps[:6], floats[:6]])
    cases = [integers * steps, floats, mixed, torch.zeros(4, 3, 1, 1), torch.ones(3, 1, 1, 1)]
    cases += [floats[:, :1, :1, :2], (integers * steps)[:, :2].bfloat16().float()]
    answers = set()
    for weight in cases:
        settings = {"scale_shape": (len(weight), 1, 1, 1), "block_size": None}
        for bits in (4, 8):
            found = []
            for quick in (False, True):
                with rejecting_floats() if quick else contextlib.nullcontext():
                    try:
                        found.append(
                            base._decompose_prequantized_tensor(
                                weight,
                                -(2 ** (bits - 1)),
                                2 ** (bits - 1) - 1,
                                **settings,
                                zero_point_shift=0.0,
                            )[1]
                        )
                    except _DecompositionError:
                        found.append(None)
            answers.add(found[0] is None)
            assert (found[0] is None) == (found[1] is None)
            assert found[0] is None or torch.equal(*found)
    assert answers == {True, False}
    assert base._decompose_prequantized_tensor is own
