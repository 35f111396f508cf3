"""A difference is explained by roundings where it can come of them, and nowhere else."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from conformance import ties
from conformance.cases import CASES
from conformance.checks import Subject, run_checks, unfused
from conformance.findings import Verdict, faults

RECIPE = ("fold_batch_norm", "calibrate")


def _subject(name, precision, folder):
    [case] = [case for case in CASES if case.name == name]
    return Subject(case.make_network("end"), case.make_images(), precision, RECIPE, folder)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4096, 7), (5, 4096)),
        (nn.Conv2d(64, 6, 3, padding=1), (2, 64, 6, 6)),
        (nn.ConvTranspose2d(32, 6, 3), (2, 32, 6, 6)),
    ],
)
def test_the_bound_of_a_sum_holds_against_float64(layer, shape):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        x = torch.randn(shape)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn_like(parameter))
            bound = ties._bound(layer, [x])
            found = layer(x)
            right = layer.double()(x.double())
    off = (found.double() - right).abs()
    assert float(off.max()) > 0
    assert bool((off <= bound).all())
    # The result is not drowned in it: 1/20 of a step of 8 bit at the most.
    assert float(torch.as_tensor(bound).max()) < 5e-2 * float(np.ptp(right.numpy())) / 255


def test_values_of_16_bit_that_float_sums_round_apart_are_explained(tmp_path):
    subject = _subject("elementwise/rdiv", "w8a16", tmp_path)
    subject.quantize()
    subject.export()
    found = unfused(subject)
    assert found.verdict is not Verdict.STEPS or found.explained
    assert faults({"unfused": found}, 16) == []


def test_a_bias_that_is_three_steps_off_is_not_explained(tmp_path):
    subject = _subject("convolution/plain", "w8a16", tmp_path)
    subject.quantize()
    subject.export()
    model = onnx.load(subject.artifact)
    [bias] = [t for t in model.graph.initializer if t.name == "body_bias_integers"]
    [scale] = [t for t in model.graph.initializer if t.name == "body_bias_scale"]
    moved = numpy_helper.to_array(bias).copy()
    moved[0] += round(3 * subject.step / float(numpy_helper.to_array(scale)[0]))
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(model, subject.artifact)
    found = unfused(subject)
    assert found.verdict is Verdict.STEPS
    assert not found.explained


def test_a_step_before_a_jump_explains_a_jump_and_nothing_larger(tmp_path):
    subject = _subject("elementwise/round", "w8a8", tmp_path)
    subject.quantize()
    spread = ties.Spread(subject.quantized, subject.images, 1)
    assert spread.explains(spread.low, 0)
    assert spread.explains(spread.high, 0)
    assert float((spread.high - spread.low).min()) < 0.1  # of most values, far from a jump
    assert not spread.explains(subject.expected + 1, 0)


def test_several_ties_in_a_row_are_found(tmp_path):
    subject = _subject("elementwise/div_relu6", "w8a16", tmp_path)
    subject.quantize()
    subject.export()
    found = unfused(subject)
    assert found.verdict is Verdict.EXACT or found.explained


def test_a_network_without_an_answer_is_told_from_a_wrong_simulation(tmp_path, monkeypatch):
    subject = _subject("normalization/layer_norm_2d_by_hand", "w4a4", tmp_path)
    found = dict(run_checks(subject, ("unfused",)))
    assert str(found["quantize"]) == "float: no answer: Divide of what is rounded to zero"
    assert faults(found, 4) == []

    def spoiled(self, quantize=Subject.quantize):
        quantize(self)
        self.expected[0, 0] = np.nan

    monkeypatch.setattr(Subject, "quantize", spoiled)
    found = dict(run_checks(_subject("convolution/plain", "w4a4", tmp_path), ("unfused",)))
    assert found["quantize"].verdict is Verdict.FAULT
