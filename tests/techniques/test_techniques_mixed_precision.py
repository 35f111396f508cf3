"""Mixed precision: the exact optimum of the knapsack, budgets kept, floors reached."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitladder import techniques
from bitladder.errors import QuantizationError, StudyError
from bitladder.options import MixedPrecision, Precision, parse_recipe
from bitladder.tasks import find
from bitladder.techniques.mixed_precision import assign
from small_network import agreement, only_output

BITS = (2, 3, 4, 8)


def _calibrated(network, images, precision="w4a8"):
    context = techniques.Context(
        Precision.parse(precision), (images,), network, find("classification")
    )
    model = network
    for technique in parse_recipe(["fold_batch_norm", {"calibrate": {"method": "min_max"}}]):
        model = techniques.apply(technique, model, context)
    return model.eval(), context


def _widths(model):
    found = {}
    for info, quantizer in model.quantizers():
        if info.kind == "weight":
            layer = info.name.split(".param_quantizers")[0]
            size = model.module.get_submodule(layer).weight.numel()
            found[layer] = (quantizer.bitwidth, size)
    return found


@settings(deadline=None, max_examples=30)
@given(
    noise=st.lists(st.lists(st.floats(0.001, 10), min_size=3, max_size=3), min_size=2, max_size=4),
    sizes=st.lists(st.integers(1, 50), min_size=4, max_size=4),
    share=st.floats(0, 1),
)
def test_the_assignment_is_the_best_of_all(noise, sizes, share):
    noise = np.array(noise)
    costs = np.outer(sizes[: len(noise)], [2.0, 4.0, 8.0])
    budget = costs.min(1).sum() * (1 - share) + costs.max(1).sum() * share
    rows = np.arange(len(noise))
    best = min(
        noise[rows, choice].sum()
        for choice in itertools.product(range(3), repeat=len(noise))
        if costs[rows, choice].sum() <= budget * (1 + 1e-9)
    )
    found = assign(noise, costs, budget)
    assert costs[rows, found].sum() <= budget * (1 + 1e-6)
    assert noise[rows, found].sum() == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("mean_bits", [2.0, 3.5, 8.0])
def test_the_mean_stays_within_the_budget(network, images, mean_bits):
    model, context = _calibrated(network, images)
    techniques.apply(MixedPrecision(mean_bits=mean_bits, bits=BITS), model, context)
    widths = _widths(model)
    mean = sum(bits * size for bits, size in widths.values()) / sum(s for _, s in widths.values())
    assert mean <= mean_bits + 1e-9
    assert {bits for bits, _ in widths.values()} <= set(BITS)
    assert mean_bits not in (2.0, 8.0) or mean == mean_bits
    activations = {info.bits for info, _ in model.quantizers() if info.kind != "weight"}
    assert activations == {8}


def test_the_layer_that_matters_gets_the_bits(network, images):
    torch.manual_seed(0)
    with torch.no_grad():  # all that this layer's weights do is below half a step at few bits
        network.head.weight.copy_(torch.randn(4, 16) ** 5)
    model, context = _calibrated(network, images, "w4a16")
    techniques.apply(MixedPrecision(mean_bits=4.0, bits=(2, 8)), model, context)
    widths = {name: bits for name, (bits, _) in _widths(model).items()}
    assert widths["head"] == 8
    assert 2 in widths.values()


def test_megabytes_and_bops_are_counted_as_a_person_would(network, images):
    sizes = {"stem.0": 72, "depthwise.0": 72, "pointwise.0": 64, "head": 64}
    positions = {"stem.0": 144, "depthwise.0": 144, "pointwise.0": 144, "head": 1}
    at_3_bits = sum(sizes.values()) * 3 / 8e6
    model, context = _calibrated(network, images)
    techniques.apply(MixedPrecision(megabytes=at_3_bits, bits=(3, 8)), model, context)
    assert {bits for bits, _ in _widths(model).values()} == {3}
    bops = sum(sizes[name] * positions[name] for name in sizes) * 3 * 8 / 1e9
    model, context = _calibrated(network, images)
    techniques.apply(MixedPrecision(gigabops=bops, bits=(3, 8)), model, context)
    assert {bits for name, (bits, _) in _widths(model).items() if name != "head"} == {3}


def test_the_floor_is_kept_and_the_points_are_told(network, images):
    model, context = _calibrated(network, images)
    techniques.apply(MixedPrecision(min_agreement=0.9, bits=BITS), model, context)
    assert agreement(only_output(network, images), only_output(model, images)) >= 0.9
    points = [note for note in context.notes if note.startswith("Pareto: ")]
    assert len(points) >= 2
    bits = [float(note.split()[1]) for note in points]
    assert bits == sorted(bits)
    assert any(note.startswith("chosen: ") for note in context.notes)


def test_what_cannot_be_met_says_so(network, images):
    model, context = _calibrated(network, images)
    with pytest.raises(QuantizationError, match=r"more than the budget.*allow fewer bits"):
        techniques.apply(MixedPrecision(megabytes=1e-9), model, context)
    with torch.no_grad():
        nn.init.normal_(context.reference.head.weight)  # another network
        context.reference.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 99.0]))
    with pytest.raises(QuantizationError, match="fewer than min_agreement 1"):
        techniques.apply(MixedPrecision(min_agreement=1.0), model, context)


@pytest.mark.parametrize("options", [{}, {"mean_bits": 4, "megabytes": 1}])
def test_there_is_one_goal(options):
    with pytest.raises(StudyError, match="give one of mean_bits, megabytes"):
        parse_recipe(["fold_batch_norm", "calibrate", {"mixed_precision": options}])


def test_widths_are_saved_and_loaded(network, images, tmp_path):
    model, context = _calibrated(network, images)
    techniques.apply(MixedPrecision(mean_bits=4.0, bits=(2, 8)), model, context)
    model.save(tmp_path / "s.safetensors")
    fresh, _ = _calibrated(network, images)
    fresh.restore(tmp_path / "s.safetensors")
    assert _widths(fresh) == _widths(model)
    assert torch.equal(only_output(fresh, images), only_output(model, images))
