"""What a pipe or a file gets is whole, and what it says is what was given."""

import pytest
from rich.table import Table

from bitladder.console import console


@pytest.mark.parametrize("stderr", [False, True])
def test_a_table_in_a_pipe_is_not_cut_and_names_in_brackets_are_no_markup(capsys, stderr):
    name = "[red]:smile:" + "x" * 170
    table = Table("name")
    table.add_row(name)
    console(stderr=stderr).print(table)
    written = capsys.readouterr()
    assert name in (written.err if stderr else written.out)
    assert "\x1b" not in written.err + written.out
