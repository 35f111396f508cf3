"""Calibration in compiled code against AIMET's own: statistics and ranges, bit for bit."""

import contextlib

import pytest
import torch
from aimet_torch.nn import QuantizedConv2d, QuantizedLinear
from aimet_torch.quantization.affine import QuantizeDequantize
from aimet_torch.quantization.encoding_analyzer import (
    MinMaxEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)
from aimet_torch.utils import _decompose_prequantized_tensor, _DecompositionError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bitladder
from bitladder import models
from bitladder.options import Calibrate, FoldBatchNorm, ModelOptions, Precision
from bitladder.simulation import SimulatedModel, calibrate, prepare, ranges, simulated
from bitladder.simulation.aimet import (
    accelerate,
    accelerate_analyzer,
    fused_quantizer,
    set_weight_range,
)
from bitladder.simulation.kernel import KernelUnavailableError, library
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


METHODS = ["sqnr", "mse", "percentile", "entropy", "min_max"]


def _ranges(model):
    return {info.name: (q.min.clone(), q.max.clone()) for info, q in model.quantizers()}


def _assert_same_ranges(found, wanted):
    assert found.keys() == wanted.keys()
    for name, bounds in wanted.items():
        assert all(torch.equal(a, b) for a, b in zip(found[name], bounds, strict=True)), name


def _calibrated_by_aimet(make, images, monkeypatch):
    """Ranges that AIMET's own code gives: analyzers, contexts and modules."""
    own = QuantizeDequantize._compute_encodings
    with monkeypatch.context() as patch:
        patch.setattr(ranges, "accelerate_analyzer", lambda analyzer: None)
        patch.setattr(ranges, "cross_entropies", lambda *given: None)
        patch.setattr(fused_quantizer._fused_type(), "_compute_encodings", own)
        patch.setattr(calibrate, "_is_known", lambda *given: False)
        patch.setattr(simulated, "Executor", lambda module: _Module(module))
        model = make()
        model.calibrate(images)
        return _ranges(model)


class _Module:
    """AIMET's own modules in the executor's place."""

    def __init__(self, module):
        self.module = module

    def __call__(self, images):
        return self.module(images)

    @contextlib.contextmanager
    def watched_by(self, watch):
        yield


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_network_gets_the_ranges_that_aimets_own_code_gives(
    network, images, method, fold, monkeypatch
):
    folded = fold_batch_norm(network)[0] if fold else prepare(network)
    options = Calibrate(method=method)

    def make():
        return SimulatedModel(folded, Precision(4, 8), shapes=[(1, 12, 12)], options=options)

    model = make()
    model.calibrate(images)
    _assert_same_ranges(_ranges(model), _calibrated_by_aimet(make, images, monkeypatch))


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5"])
def test_real_networks_get_the_ranges_that_aimets_own_code_gives(name, monkeypatch):
    shape = (1, 32, 32)
    images = torch.rand(20, *shape, generator=torch.Generator().manual_seed(1))
    plain = prepare(
        models.build(ModelOptions(name=name), classes=10, shapes=[shape], seed=0).eval()
    )
    options = Calibrate(method="min_max")

    def make():
        return SimulatedModel(plain, Precision(8, 8), shapes=[shape], options=options)

    model = make()
    model.calibrate(images)
    _assert_same_ranges(_ranges(model), _calibrated_by_aimet(make, images, monkeypatch))


def test_weights_in_another_memory_format_are_calibrated_as_they_are(network, images, monkeypatch):
    folded, _ = fold_batch_norm(network)
    folded.to(memory_format=torch.channels_last)

    def make():
        return SimulatedModel(folded, Precision(8, 8), shapes=[(1, 12, 12)])

    model = make()
    model.calibrate(images)
    _assert_same_ranges(_ranges(model), _calibrated_by_aimet(make, images, monkeypatch))


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_what_would_overflow_gets_the_scale_that_aimet_gives(network, images, size, monkeypatch):
    """Biases too large for an int32, and weights whose scale a target takes for another."""
    folded, _ = fold_batch_norm(network)
    first = next(layer for layer in folded.modules() if isinstance(layer, torch.nn.Conv2d))
    with torch.no_grad():
        first.bias.fill_(1e6 * size)
        folded.head.weight.mul_(size)

    def make():
        return SimulatedModel(
            folded, Precision(8, 8), shapes=[(1, 12, 12)], options=Calibrate(method="min_max")
        )

    model = make()
    model.calibrate(images)
    own, aimet_s = _ranges(model), _calibrated_by_aimet(make, images, monkeypatch)
    # AIMET leaves out layers whose output an activation rounds.
    rectified = "stem.0.param_quantizers.weight"
    own.pop(rectified)
    aimet_s.pop(rectified)
    _assert_same_ranges(own, aimet_s)
    layer = model.module.get_submodule("stem.0")
    step = layer.input_quantizers[0].get_scale() * layer.param_quantizers["weight"].get_scale()
    assert (layer.bias.abs() / step.flatten()).max() < 2**31


def test_a_network_with_a_module_that_only_aimet_knows_is_left_to_it(network, images, monkeypatch):
    model = SimulatedModel(prepare(network), Precision(8, 8), shapes=[(1, 12, 12)])
    asked = []
    own = model.sim.compute_encodings
    monkeypatch.setattr(
        model.sim, "compute_encodings", lambda run: (asked.append(1), own(run)), raising=False
    )
    model.module.extra = QuantizeDequantize((), 8, False)  # a quantizer that no module has
    model.module.extra.set_range(torch.tensor(-1.0), torch.tensor(1.0))
    model.calibrate(images)
    assert asked


WEIGHT_METHODS = ["min_max", "sqnr", "mse", "percentile"]


@settings(max_examples=40)
@given(
    method=st.sampled_from(WEIGHT_METHODS),
    bits=st.sampled_from([2, 4, 8]),
    symmetric=st.booleans(),
    shape=st.sampled_from([(7, 1, 3, 3), (5, 12, 1, 1), (6, 40, 3, 3), (9, 200)]),
    per_channel=st.booleans(),
    scale=st.sampled_from([1e-12, 1.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_ranges_of_weights_are_those_that_aimet_finds(
    method, bits, symmetric, shape, per_channel, scale, seed
):
    generator = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(shape, generator=generator) ** 3
    weight[0] = 0  # a channel without a range
    weight[1] = weight[1].flatten()[0]
    channels = (len(weight), *[1] * (weight.dim() - 1)) if per_channel else ()
    ours, theirs = (QuantizeDequantize(channels, bits, symmetric) for _ in range(2))
    for own in (ours, theirs):
        ranges.set_analyzer(own, Calibrate(method=method, percentile=98.0), weight=True)
    theirs.encoding_analyzer = _plain_analyzer(method, channels)
    accelerate(ours)
    layer = _layer(theirs, weight)
    layer._compute_param_encodings(overwrite=True)
    if set_weight_range(ours, torch.nn.Parameter(weight)):
        assert torch.equal(ours.min, theirs.min)
        assert torch.equal(ours.max, theirs.max)
    else:
        assert symmetric  # few channels: they may lie on a grid


def _plain_analyzer(method, shape):
    if method == "min_max":
        return MinMaxEncodingAnalyzer(shape)
    if method == "percentile":
        return PercentileEncodingAnalyzer(shape, percentile=98.0)
    return TfEnhancedEncodingAnalyzer(shape) if method == "sqnr" else ANALYZERS["mse"](shape)


def _layer(own, weight):
    """A layer of AIMET's with these weights and this quantizer."""
    if weight.dim() == 4:
        layer = QuantizedConv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False)
    else:
        layer = QuantizedLinear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(weight)
    layer.param_quantizers["weight"] = own
    return layer


def test_weights_on_a_grid_are_left_to_aimet_and_others_are_not():
    """The answer that AIMET itself gives to whether weights lie on a grid already."""
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(-7, 8, (12, 6, 3, 3), generator=generator).float()
    steps = torch.rand((12, 1, 1, 1), generator=generator) + 0.1
    floats = torch.randn((12, 6, 3, 3), generator=generator)
    mixed = torch.cat([integers[:6] * steps[:6], floats[:6]])
    cases = [integers * steps, floats, mixed, torch.zeros(4, 3, 1, 1), torch.ones(3, 1, 1, 1)]
    cases += [floats[:, :1, :1, :2], (integers * steps)[:, :2].bfloat16().float()]
    answers = set()
    for weight in cases:
        for bits in (4, 8):
            own = QuantizeDequantize((len(weight), 1, 1, 1), bits, True)
            accelerate(own)
            try:
                _decompose_prequantized_tensor(weight, own.qmin, own.qmax, own.shape)
                fits = True
            except _DecompositionError:
                fits = False
            found = set_weight_range(own, torch.nn.Parameter(weight))
            answers.add((fits, found))
    assert {(True, False), (False, True)} <= answers
    assert (True, True) not in answers


class _Parts(nn.Module):
    """Values up to some 30 times a sigmoid's, beside that sigmoid's, as detectors give them."""

    def __init__(self, first):
        super().__init__()
        self.boxes, self.scores, self.first = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), first

    def forward(self, x):
        boxes, scores = 32 * self.boxes(x), torch.sigmoid(self.scores(x))
        return torch.cat([scores, boxes] if self.first else [boxes, scores], 1)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("method", ["sqnr", "mse"])
def test_a_grid_of_joined_parts_holds_the_widest_of_them(first, method):
    """No more than a step of the whole range is lost, whichever part is seen first."""
    torch.manual_seed(0)
    model = _Parts(first).eval()
    images = torch.rand(16, 3, 8, 8)
    steps = [FoldBatchNorm(), Calibrate(method=method)]
    with torch.no_grad():
        wanted = model(images)
        found = bitladder.quantize(model, images, "w8a8", steps)(images)
    step = float(wanted.max() - wanted.min()) / 255
    assert float((found - wanted).abs().max()) < 4 * step
