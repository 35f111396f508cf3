"""A table's CSV is the one that pandas writes, and whole numbers stay whole."""

import io

import pandas

from bitladder.pipeline.tables import Table

ROWS = [
    {"name": "a,b", "count": 3, "share": 0.1, "note": 'say "x"\nand y'},
    {"name": "", "count": 10**12, "share": 1e-7, "note": None},
    {"name": "c", "count": 0, "share": float("inf"), "note": "ü", "more": 2.5},
]


def test_it_is_what_pandas_writes():
    expected = pandas.DataFrame(ROWS).to_csv(index=False, lineterminator="\n")
    assert Table(ROWS).csv() == expected
    assert Table(ROWS).frame().equals(pandas.DataFrame(ROWS))


def test_the_fullest_row_gives_the_order_and_others_follow():
    table = Table([{"a": 1, "z": 2}, {"a": 3, "b": 4, "c": 5}])
    assert table.columns == ["a", "b", "c", "z"]
    assert table.csv() == "a,b,c,z\n1,,,2\n3,4,5,\n"


def test_not_a_number_is_empty_and_a_table_without_rows_has_its_columns():
    text = Table([{"a": 1, "b": float("nan")}]).csv()
    assert text == "a,b\n1,\n"
    assert pandas.read_csv(io.StringIO(text)).isna().to_numpy().tolist() == [[False, True]]
    assert Table([], empty=("a", "b")).csv() == "a,b\n"
