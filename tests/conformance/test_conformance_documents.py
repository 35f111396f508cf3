"""The operators' page shows the committed results, and those hold no fault."""

import csv
import importlib

import pytest

from conformance.cases import CASES

script = importlib.import_module("make_operator_table")


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_page_is_that_of_the_results():
    assert script.PAGE.read_text() == script.page()


@pytest.mark.parametrize(("path", "least"), [(script.RESULTS, 5000), (script.RANDOM, 2000)])
def test_the_results_are_whole_and_without_a_fault(path, least):
    rows = _rows(path)
    assert len(rows) >= least
    assert [row for row in rows if row["faults"]] == []


def test_every_case_is_in_the_results():
    assert {row["case"] for row in _rows(script.RESULTS)} == {case.name for case in CASES}
