"""The operators' page shows the committed results; those of single operations hold no fault."""

import csv
import importlib

from conformance.cases import CASES

script = importlib.import_module("make_operator_table")


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_page_is_that_of_the_results():
    assert script.PAGE.read_text() == script.page()


KNOWN = {  # docs/operators.md says what they are
    ("blocks/espcn", "w8a16"),
    ("convolution/conv3d_batch_norm", "w8a8"),
    ("convolution/conv3d_batch_norm", "w8a16"),
    ("reduction/cumsum", "w8a8"),
}


def test_the_operations_are_without_a_fault_but_for_those_that_the_page_names():
    faulty = {(row["case"], row["precision"]) for row in _rows(script.RESULTS) if row["faults"]}
    assert faulty == KNOWN


def test_every_random_network_was_checked():
    seeds = [int(row["seed"]) for row in _rows(script.RANDOM)]
    assert sorted(seeds) == list(range(len(seeds)))


def test_every_case_is_in_the_results():
    assert {row["case"] for row in _rows(script.RESULTS)} == {case.name for case in CASES}
