"""The checks find what they are for, in files that were made wrong."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bitladder.errors import ExportError
from conformance.cases import CASES
from conformance.checks import Subject, batches, optimised, repeated, run_checks, saved, unfused
from conformance.findings import Finding, Verdict, difference, faults

RECIPE = ("fold_batch_norm", "calibrate")


@pytest.fixture
def subject(tmp_path):
    [case] = [case for case in CASES if case.name == "convolution/plain"]
    made = Subject(case.make_network("inside"), case.make_images(), "w8a8", RECIPE, tmp_path)
    made.quantize()
    made.export()
    return made


def _changed(subject, change):
    model = onnx.load(subject.artifact)
    change(model.graph)
    onnx.save(model, subject.artifact)


def _enlarge_a_scale(graph):
    step = next(
        node
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node is not graph.node[0]
    )
    [scale] = [tensor for tensor in graph.initializer if tensor.name == step.input[1]]
    scale.CopyFrom(numpy_helper.from_array(16 * numpy_helper.to_array(scale), scale.name))


def _fix_the_batch(graph):
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5


def test_a_right_file_passes(subject):
    for check in (unfused, batches, saved, repeated):
        assert check(subject).verdict is Verdict.EXACT


def test_a_wrong_scale_is_found(subject):
    _changed(subject, _enlarge_a_scale)
    for check in (unfused, optimised):
        assert faults({check.__name__: check(subject)}, 8)
    assert "other bytes" in repeated(subject).reason
    assert "another file" in saved(subject).reason


def test_a_batch_that_is_not_free_is_found(subject):
    _changed(subject, _fix_the_batch)
    assert faults({"batches": batches(subject)}, 8)


def test_a_refusal_counts_only_where_it_is_right(subject, monkeypatch):
    def refuse(self):
        raise ExportError("no way to write Conv")

    monkeypatch.setattr(Subject, "export", refuse)
    found = dict(run_checks(subject, ("unfused",)))
    assert found["export"] == Finding(Verdict.REFUSED, reason="no way to write Conv")
    assert faults(found, 8) == ["export: refused: no way to write Conv"]
    assert faults(found, 8, refused="write Conv") == []
    assert faults(found, 8, refused="write Pad") != []


def test_an_exception_of_another_kind_is_a_fault(subject, monkeypatch):
    monkeypatch.setattr(Subject, "export", lambda self: {}["weight"])
    found = dict(run_checks(subject, ("unfused",)))
    assert found["export"].verdict is Verdict.FAULT
    assert faults(found, 8, refused=None) == ["export: fault: KeyError: 'weight'"]


def test_differences_are_counted_in_steps():
    right = np.zeros((4, 5), np.float32)
    right[0, 0] = 1
    wrong = right.copy()
    wrong[1, 1] = 0.5
    found = difference(wrong, right, 0.25)
    assert (found.steps, found.share, found.rows) == (2, 1 / 20, 1 / 4)
    assert found.decibels == pytest.approx(10 * np.log10(4))
    assert difference(right + 1e-3, right, 0.25).verdict is Verdict.EXACT  # float noise
    assert difference(right[:3], right, 0.25).verdict is Verdict.FAULT


@pytest.mark.parametrize(
    ("found", "bits", "deep", "right"),
    [
        (Finding(Verdict.STEPS, steps=1, share=1e-3, rows=0.2, decibels=50), 8, False, True),
        (Finding(Verdict.STEPS, steps=1, share=0.1, rows=1.0, decibels=44), 8, False, False),
        (Finding(Verdict.STEPS, steps=2, share=1e-3, rows=0.2, decibels=50), 8, False, False),
        (Finding(Verdict.STEPS, steps=2, share=0.03, rows=0.05, decibels=50), 8, True, True),
        (Finding(Verdict.STEPS, steps=2, share=0.03, rows=0.5, decibels=50), 8, True, False),
        (Finding(Verdict.STEPS, steps=1, share=0.01, rows=0.5, decibels=100), 16, False, True),
        (Finding(Verdict.STEPS, steps=90, share=0.5, rows=1.0, decibels=60), 16, True, False),
    ],
)
def test_ties_are_few_and_small(found, bits, deep, right):
    assert (faults({"unfused": found}, bits, deep=deep) == []) is right
    assert faults({"integers": found}, bits, deep=deep)
