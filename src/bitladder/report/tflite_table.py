"""A .tflite file's operators and tensors as tables, and its totals as lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.table import Table

from bitladder.deploy.litert import Tflite, TfliteTensor


def operator_table(found: Tflite) -> Table:
    """A row an operator: what it reads and makes."""
    table = Table(title="operators", title_justify="left")
    for column in ("id", "type", "version", "inputs", "outputs", "output dims"):
        table.add_column(column, overflow="fold")
    for number, one in enumerate(found.operators):
        made = [found.tensors[place] for place in one.outputs]
        table.add_row(
            str(number),
            one.kind,
            str(one.version),
            ", ".join(found.tensors[place].name for place in one.inputs if place >= 0),
            ", ".join(row.name for row in made),
            ", ".join(_dims(row) for row in made),
        )
    return table


def tensor_table(found: Tflite) -> Table:
    """A row a tensor: its dims, data type and grid."""
    table = Table(title="tensors", title_justify="left")
    for column in ("name", "dims", "data type", "grid"):
        table.add_column(column, overflow="fold")
    for row in found.tensors:
        table.add_row(row.name, _dims(row), row.dtype, _grid(row))
    return table


def summary_lines(found: Tflite) -> Iterator[str]:
    """The totals of a file."""
    kinds = Counter(one.kind for one in found.operators)
    types = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    yield f"operators: {len(found.operators)} ({types})"
    yield f"constants: {sum(row.bytes for row in found.tensors):,} bytes"
    yield f"file: {found.file_bytes:,} bytes"
    yield from found.floats


def _dims(row: TfliteTensor) -> str:
    return "x".join(map(str, row.shape))


def _grid(row: TfliteTensor) -> str:
    if not row.scale:
        return "-"
    text = f"scale {row.scale[0]:.6g}, zero point {row.zero_point[0]}"
    more = len(row.scale) - 1
    return f"{text} and {more} more along {row.axis}" if more else text
