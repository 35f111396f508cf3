"""A part of the operators' cases that is small enough for every run of the suite."""

import pytest

from conformance.cases import CASES
from conformance.checks import CHECKS, SLOW, Subject, run_checks
from conformance.findings import faults

RECIPE = ("fold_batch_norm", "calibrate")
CHECKED = tuple(name for name in CHECKS if name not in SLOW)


@pytest.mark.parametrize("case", [case for case in CASES if case.quick], ids=lambda case: case.name)
@pytest.mark.parametrize(("precision", "place"), [("w8a8", "inside"), ("w4a4", "end")])
def test_a_file_is_its_simulation(case, precision, place, tmp_path):
    network, images = case.make_network(place), case.make_images()
    subject = Subject(network, images, precision, RECIPE, tmp_path)
    found = dict(run_checks(subject, CHECKED))
    assert faults(found, subject.bits, refused=case.refused) == []


@pytest.mark.parametrize("name", ["blocks/basic", "shape/expand_batch"])
def test_aimet_s_own_loader_reads_the_encodings(name, tmp_path):
    pytest.importorskip("aimet_onnx.quantsim", reason="aimet-onnx is not installed")
    [case] = [case for case in CASES if case.name == name]
    subject = Subject(case.make_network("inside"), case.make_images(), "w8a8", RECIPE, tmp_path)
    found = dict(run_checks(subject, ("loader",)))
    assert faults(found, subject.bits) == []


def test_every_case_is_named_once_and_says_what_it_tests():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) > 700
    assert all(case.operations for case in CASES)
