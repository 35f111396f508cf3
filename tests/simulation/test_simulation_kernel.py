"""The fused kernel against AIMET's own quantizer: values and gradients, on everything it takes."""

import contextlib
import copy
import importlib
import math
import os
from unittest import mock

import pytest
import torch
from aimet_torch.quantization.affine import QuantizeDequantize
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bitladder.simulation.aimet import accelerate, cross_entropies
from bitladder.simulation.kernel import KernelUnavailableError, build, gpu, library
from bitladder.simulation.kernel import quantize as quantize_module

try:
    library()
except KernelUnavailableError as reason:
    pytest.skip(f"the kernel: {reason}", allow_module_level=True)


@contextlib.contextmanager
def _in_cpp():
    yield "cpu"


@contextlib.contextmanager
def _interpreted():
    """What a GPU runs in place of the C++, here by Triton's interpreter on the CPU."""
    pytest.importorskip("triton")
    from bitladder.simulation.kernel import triton_kernels

    with (
        mock.patch("bitladder.simulation.kernel.quantize._in_cpp", return_value=False),
        mock.patch.object(gpu, "_BLOCK", 4096),
        mock.patch.object(gpu, "_PARTS", 4),
        mock.patch.object(gpu, "_WHOLE", 2),
    ):
        with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
            importlib.reload(triton_kernels)
        try:
            yield "cpu"
        finally:
            importlib.reload(triton_kernels)


@contextlib.contextmanager
def _on_a_gpu():
    yield "cuda"


_CPP = pytest.param(_in_cpp, id="C++")
_TRITON = pytest.param(_interpreted, id="Triton")
_GPU = pytest.param(
    _on_a_gpu,
    id="GPU",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
)
WAYS = pytest.mark.parametrize("way", [_CPP, _TRITON, _GPU])
FAST_WAYS = pytest.mark.parametrize("way", [_CPP, _GPU])  # of many examples; interpreting is slow


def _pair(shape, bits, symmetric, low, high):
    """AIMET's quantizer and the same one with the kernel."""
    ours, theirs = (QuantizeDequantize(shape, bits, symmetric) for _ in range(2))
    for quantizer in (ours, theirs):
        quantizer.set_range(torch.tensor(low).expand(shape), torch.tensor(high).expand(shape))
    accelerate(ours)
    assert type(ours) is not type(theirs)
    return ours, theirs


def _run(quantizer, x, weight, forward=lambda quantizer, x: quantizer(x), device="cpu"):
    """Values and gradients on the CPU, computed on a device."""
    quantizer.to(device)
    x = x.to(device).clone(memory_format=torch.preserve_format).requires_grad_()
    y = forward(quantizer, x)
    (y * weight.to(device)).sum().backward()
    found = (y.detach(), x.grad, quantizer.min.grad, quantizer.max.grad)
    return [value.cpu() for value in found]


def _compare(ours, theirs, x, device):
    with torch.no_grad():  # where a clamp holds the offset, its gradient depends on torch's version
        offset = ours.get_offset()
        held = (offset >= -ours.qmin) | (offset <= -ours.qmax)
        assume(ours.symmetric or not held.any())
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found, wanted = _run(ours, x, weight, device=device), _run(theirs, x, weight)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    for a, b in zip(found[2:], wanted[2:], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-5)
    assert found[0].stride() == x.stride()


SHAPES = [(1,), (17,), (3, 5), (4, 6, 5, 5), (50, 7, 4, 4)]


@FAST_WAYS
@settings(max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    bits=st.sampled_from([2, 3, 4, 6, 8, 16]),
    symmetric=st.booleans(),
    low=st.floats(-3, 0),
    high=st.floats(0.01, 3),
    seed=st.integers(0, 1000),
)
def test_per_tensor_it_is_aimets(way, shape, bits, symmetric, low, high, seed):
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    with way() as device:
        _compare(*_pair((), bits, symmetric, low, high), x, device)


@FAST_WAYS
@settings(max_examples=40)
@given(
    bits=st.sampled_from([2, 4, 8]),
    symmetric=st.booleans(),
    axis=st.sampled_from([0, 1]),
    last=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_per_channel_it_is_aimets(way, bits, symmetric, axis, last, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((6, 5, 3, 3), generator=generator)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    shape = (6, 1, 1, 1) if axis == 0 else (1, 5, 1, 1)
    ours, theirs = _pair(shape, bits, symmetric, -1.0, 1.0)
    low, high = (torch.rand(shape, generator=generator) + 0.1 for _ in range(2))
    for quantizer in (ours, theirs):
        quantizer.set_range(-low, high)
    with way() as device:
        if device == "cuda" and axis == 1 and last:
            return  # AIMET's own runs, whose values on a GPU are not those on the CPU
        _compare(ours, theirs, x, device)


@FAST_WAYS
@settings(max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    bits=st.sampled_from([2, 4, 8]),
    low=st.sampled_from([0.0, -0.7]),
    high=st.floats(0.01, 9),
    six=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_with_a_relu_in_front_it_is_aimets_behind_a_relu(way, shape, bits, low, high, six, seed):
    ours, theirs = _pair((), bits, False, low, high)
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x.view(-1)[0] = 6.0  # where ReLU6 passes no gradient any more
    ceiling, relu = (6.0, functional.relu6) if six else (math.inf, functional.relu)
    with way() as device:
        found = _run(
            ours,
            x,
            torch.ones_like(x),
            lambda q, x: q.clip_and_quantize(x, 0.0, ceiling),
            device,
        )
    wanted = _run(theirs, x, torch.ones_like(x), lambda q, x: q(relu(x)))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_large_tensors_and_threads_change_nothing():
    x = torch.randn(32, 48, 30, 30, generator=torch.Generator().manual_seed(0))
    ours, theirs = _pair((), 4, False, -1.0, 2.0)
    weight = torch.randn_like(x)
    threads = torch.get_num_threads()
    found = []
    for used in (1, 2, 3):
        torch.set_num_threads(used)
        ours.zero_grad()
        found.append(_run(ours, x, weight))
    torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))
    wanted = _run(theirs, x, weight)
    assert torch.equal(found[0][0], wanted[0])


def test_ranges_against_float64_finite_differences_of_the_straight_through_function():
    """The gradient of the bounds is that of s(clip(u + err, ...) + o) with its rounding held."""
    x = torch.tensor([-9.0, -0.31, 0.2, 0.77, 9.0])
    ours, _ = _pair((), 3, False, -1.0, 1.5)
    _run(ours, x, torch.ones(5))
    scale = 2.5 / 7
    offset = round(-1.0 / scale)  # qmin is 0
    held = [0.0 if not 0 <= round(v / scale) - offset <= 7 else round(v / scale) - v / scale
            for v in x.tolist()]  # fmt: skip
    by_scale = offset + held[1] + held[2] + held[3] + 7 + offset
    by_offset = 2 * scale
    assert float(ours.max.grad) == pytest.approx(
        by_scale / 7 + by_offset * (1.0 / scale**2) / 7, rel=1e-4
    )


def test_at_the_end_of_its_way_the_offset_gets_the_gradient_of_what_it_clips():
    """Above the range y is its upper bound, so that the lower one has no part in it."""
    ours, _ = _pair((), 2, False, 0.0, 1.0)
    _, _, low, high = _run(ours, torch.tensor([3.0, 5.0]), torch.tensor([0.5, 0.25]))
    assert float(low) == pytest.approx(0.0, abs=1e-6)
    assert float(high) == pytest.approx(0.75)


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_interpreted_it_is_aimets(bits, symmetric):
    generator = torch.Generator().manual_seed(bits)
    for shape, axis in (((), None), ((4, 1, 1, 1), 0), ((1, 6, 1, 1), 1)):
        x = torch.randn(4, 6, 3, 3, generator=generator)
        if axis != 1:
            x = x.contiguous(memory_format=torch.channels_last)
        ours, theirs = _pair(shape, bits, symmetric, -1.0, 1.0)
        low, high = (torch.rand(shape, generator=generator) + 0.1 for _ in range(2))
        for quantizer in (ours, theirs):
            quantizer.set_range(-low, high)
        with _interpreted() as device:
            _compare(ours, theirs, x, device)


@WAYS
@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("channels", [False, True])
def test_half_way_between_two_integers_and_an_ulp_beside_it_is_aimets(way, bits, channels):
    """Where a quotient is rounded in any other way, the integer is another one."""
    shape = (6, 1, 1, 1) if channels else ()
    ours, theirs = _pair(shape, bits, False, -1.1, 1.7)
    scale = theirs.get_scale().detach()
    ties = (torch.arange(6 * 40).view(6, 40, 1, 1) - 100 + 0.5) * scale
    up, down = (torch.nextafter(ties, torch.full_like(ties, end)) for end in (9e9, -9e9))
    with way() as device:
        _compare(ours, theirs, torch.cat([ties, up, down], 2), device)


@WAYS
def test_a_tensor_of_many_parts_is_aimets(way):
    x = torch.randn(3, 2, 150, 150, generator=torch.Generator().manual_seed(2))
    for shape in ((), (3, 1, 1, 1), (1, 2, 1, 1)):
        with way() as device:
            _compare(*_pair(shape, 4, True, -1.0, 1.0), x, device)


@pytest.mark.parametrize("capable", [True, False])
def test_a_gpu_that_kernels_cannot_be_compiled_for_runs_aimets_path(capable):
    with mock.patch.object(gpu, "is_available", return_value=capable):
        assert quantize_module.runs_on("cuda") is capable
        assert quantize_module.runs_on("cpu")
        assert not quantize_module.runs_on("mps")


def test_strided_inputs_other_dtypes_and_empty_ones_take_a_way_that_works():
    ours, theirs = _pair((), 4, False, -1.0, 2.0)
    x = torch.randn(6, 8)[:, ::2]
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours(x.double()), theirs(x.double()))
    assert ours(torch.zeros(0, 3)).shape == (0, 3)


def test_calibration_sees_what_passes():
    ours, theirs = _pair((), 8, False, -1.0, 2.0)
    x = torch.randn(1000)
    for quantizer in (ours, theirs):
        with quantizer.compute_encodings():
            quantizer(x)
    assert torch.equal(ours.get_min(), theirs.get_min())
    assert torch.equal(ours.get_max(), theirs.get_max())


@pytest.mark.parametrize("bits", [2, 8, 16])  # of 16, exponentials are not looked up
@pytest.mark.parametrize("symmetric", [True, False])
def test_cross_entropies_of_many_ranges_are_pytorchs_in_float64(bits, symmetric):
    generator = torch.Generator().manual_seed(0)
    logits = 8 * torch.randn(40, 7, generator=generator)
    wanted = torch.softmax(logits, 1)
    low, high = -10 * torch.rand(9, generator=generator), 10 * torch.rand(9, generator=generator)
    ours, theirs = _pair((), bits, symmetric, -1.0, 1.0)
    losses = cross_entropies(ours, logits, wanted, low, high)
    for found, *bounds in zip(losses.tolist(), low, high, strict=True):
        theirs.set_range(*bounds)
        quantized = theirs(logits).as_subclass(torch.Tensor).double()
        reference = functional.cross_entropy(quantized, wanted.double())
        assert found == pytest.approx(float(reference), rel=1e-6, abs=1e-6)
    assert cross_entropies(theirs, logits, wanted, low, high) is None  # without the kernel


def test_copies_keep_the_kernel_and_the_ranges():
    ours, _ = _pair((), 4, False, -1.0, 2.0)
    twin = copy.deepcopy(ours)
    assert type(twin) is type(ours)
    x = torch.randn(50)
    assert torch.equal(twin(x), ours(x))


def test_without_a_compiler_aimets_own_path_runs(monkeypatch):
    build.library.cache_clear()
    for name, value, message in (
        ("BITLADDER_KERNEL", "0", "turned off"),
        ("CXX", "no-such-compiler", "no C\\+\\+ compiler 'no-such-compiler' found"),
        ("CXX", "false", "false fails"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(KernelUnavailableError, match=message):
                library()
            quantizer = QuantizeDequantize((), 4, False)
            accelerate(quantizer)
            assert type(quantizer) is QuantizeDequantize
    library()
