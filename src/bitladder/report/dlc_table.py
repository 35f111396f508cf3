"""A .dlc file's layers as a table, and its totals as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from bitladder.dlc import Summary


def layer_table(summary: Summary) -> Table:
    """A row a layer: what it reads and writes, its settings, parameters and multiply-adds."""
    table = Table(title=summary.graph, title_justify="left")
    for column in ("id", "name", "type", "inputs", "outputs", "output dims", "settings"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "MACs"):
        table.add_column(column, justify="right")
    for layer in summary.layers:
        written = [summary.tensors[name] for name in layer.outputs if name in summary.tensors]
        table.add_row(
            str(layer.id),
            layer.name,
            layer.type,
            ", ".join(layer.inputs),
            ", ".join(layer.outputs),
            ", ".join(_dims(row) for row in written),
            ", ".join(f"{key}={value}" for key, value in layer.attributes.items()),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
        )
    return table


def tensor_table(summary: Summary) -> Table:
    """A row a tensor: its dims, data type and encoding."""
    table = Table(title="tensors", title_justify="left")
    for column in ("name", "kind", "dims", "data type", "encoding"):
        table.add_column(column, overflow="fold")
    for name, row in summary.tensors.items():
        table.add_row(name, row["kind"], _dims(row), row["data_type"], _encoding(row))
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


def _dims(row: dict[str, Any]) -> str:
    return "x".join(map(str, row["dims"]))


def _encoding(row: dict[str, Any]) -> str:
    if "scale" not in row:
        return "-"
    ranges = len(row["scale"])
    text = f"{row['bits']} bit, scale {row['scale'][0]:.6g}, offset {row['offset'][0]}"
    return text if ranges == 1 else f"{text} and {ranges - 1} more"
