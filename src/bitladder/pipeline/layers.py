"""What each quantizer of a cell costs alone, from what the explain stage wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.rows import interval, place
from bitladder.pipeline.stage_records import ExplainRecord

LAYER_COLUMNS = (
    *("dataset", "model", "precision", "layer", "kind", "bits", "sqnr_db", "agreement"),
    *("value", "value_low", "value_high", "images", "own_sqnr_db", "ranges", "lowest", "highest"),
)


def layer_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    """One row a quantizer, the costliest first.

    ``value`` and ``agreement`` are those of the network with this quantizer alone, ``sqnr_db`` is
    of its outputs, ``own_sqnr_db`` of the values that pass the quantizer.
    """
    record = cell.record(ExplainRecord)
    for cost in record.quantizers if record else ():
        yield {
            **place(cell),
            "layer": cost.layer,
            "kind": cost.kind,
            "bits": cost.bits,
            "sqnr_db": cost.sqnr,
            "agreement": cost.agreement,
            **interval("value", cost.quality),
            "images": cost.quality.count,
            "own_sqnr_db": cost.own_sqnr,
            "ranges": len(cost.highest),
            "lowest": min(cost.lowest),
            "highest": max(cost.highest),
        }


def channel_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    """One row an output channel of every weight: its smallest and largest value."""
    record = cell.record(ExplainRecord)
    for cost in record.quantizers if record else ():
        bounds = zip(cost.channel_lowest, cost.channel_highest, strict=True)
        for channel, (lowest, highest) in enumerate(bounds):
            yield {
                **place(cell),
                "layer": cost.layer,
                "channel": channel,
                "lowest": lowest,
                "highest": highest,
            }
