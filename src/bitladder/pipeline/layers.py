"""What each quantizer of a cell costs alone, from what the explain stage wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bitladder.accuracy import Accuracy

if TYPE_CHECKING:
    from bitladder.pipeline.results import CellResult

COLUMNS = (
    *("dataset", "model", "precision", "layer", "kind", "bits", "sqnr_db", "agreement"),
    *("acc", "acc_low", "acc_high", "images", "own_sqnr_db", "ranges", "lowest", "highest"),
)


def place(cell: CellResult) -> dict[str, str]:
    """The columns that name a cell."""
    return {
        "dataset": cell.cell.dataset_label,
        "model": cell.cell.model_label,
        "precision": str(cell.cell.precision),
    }


def layer_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    """One row a quantizer, the costliest first.

    ``acc`` and ``agreement`` are those of the network with this quantizer alone, ``sqnr_db`` is of
    its logits, ``own_sqnr_db`` of the values that pass the quantizer.
    """
    for row in cell.records.get("explain", {}).get("quantizers", ()):
        accuracy = Accuracy(**row["accuracy"])
        yield {
            **place(cell),
            "layer": row["name"],
            "kind": row["kind"],
            "bits": row["bits"],
            "sqnr_db": row["sqnr"],
            "agreement": row["agreement"],
            "acc": accuracy.value,
            "acc_low": accuracy.interval[0],
            "acc_high": accuracy.interval[1],
            "images": accuracy.total,
            "own_sqnr_db": row["own_sqnr"],
            "ranges": len(row["highest"]),
            "lowest": min(row["lowest"]),
            "highest": max(row["highest"]),
        }
