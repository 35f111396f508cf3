"""Every operator of the table has a case, under one of the names that it is found by."""

import pytest

from conformance.cases import CASES

table = pytest.importorskip("bitladder.operators", reason="there is no operator table yet")


def _plain(name):
    """Classes, functions and methods of one operation differ by capitals and underscores."""
    return name.rpartition(".")[2].replace("_", "").replace(" ", "").lower()


NAMED = {_plain(name) for case in CASES for name in case.operations}


@pytest.mark.parametrize("operator", table.operators(), ids=lambda operator: operator.name)
def test_every_operator_has_a_case(operator):
    names = (operator.name, *operator.modules, *operator.functions, *operator.becomes)
    assert NAMED & {_plain(name) for name in names}
