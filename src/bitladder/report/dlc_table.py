"""A .dlc file's layers as a table, and its totals as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from bitladder.dlc import Summary


def layer_table(summary: Summary) -> Table:
    """A row a layer: what it reads and writes, with dims, data type and encoding."""
    table = Table(title=summary.graph, title_justify="left")
    for column in ("id", "name", "type", "inputs", "output", "dims", "type of data", "encoding"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "MACs"):
        table.add_column(column, justify="right")
    for layer in summary.layers:
        first: dict[str, Any] = layer.outputs[0] if layer.outputs else {}
        table.add_row(
            str(layer.id),
            layer.name,
            layer.type,
            ", ".join(layer.inputs),
            str(first.get("name", "-")),
            "x".join(map(str, first.get("dims", ()))),
            str(first.get("data_type", "-")),
            _encoding(first),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
        )
    return table


def summary_lines(summary: Summary) -> Iterator[str]:
    """The totals of a graph."""
    types = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.types.items()))
    yield f"layers: {len(summary.layers)} ({types})"
    yield f"parameters: {summary.parameters:,} in {summary.static_bytes:,} bytes"
    yield f"MACs: {summary.macs:,}"
    yield f"memory to run, estimated: {summary.memory_bytes / 2**20:.2f} MiB"
    yield f"file: {summary.file_bytes:,} bytes"
    for key, value in summary.converter.items():
        yield f"{key}: {value}"


def _encoding(row: dict[str, Any]) -> str:
    if "scale" not in row:
        return "-"
    ranges = len(row["scale"])
    text = f"{row['bits']} bit, scale {row['scale'][0]:.6g}, offset {row['offset'][0]}"
    return text if ranges == 1 else f"{text} and {ranges - 1} more"
