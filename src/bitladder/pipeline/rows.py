"""Cells and rungs as flat rows, the columns of results.csv and rungs.csv.

A quality ``x`` has the columns ``x``, ``x_low`` and ``x_high``: its value and its 95 % interval, in
the unit that the column ``unit`` names. Shares are 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bitladder.measurement import Loss, Measurement, loss
from bitladder.pipeline.cell_result import CellResult, cause, first_difference
from bitladder.pipeline.stage_records import ExportRecord, TestRecord, TrainRecord, VerifyRecord
from bitladder.rungs import loss_of

_MEGABYTE = 1e6
RUNG_COLUMNS = ("dataset", "model", "precision", "recipe", "seed", "rung", "technique")


def place(cell: CellResult) -> dict[str, Any]:
    """The columns that name a cell."""
    return {
        "dataset": cell.cell.dataset_label,
        "model": cell.cell.model_label,
        "precision": str(cell.cell.precision),
        "recipe": cell.cell.recipe.name,
        "seed": cell.cell.seed,
    }


def cell_row(cell: CellResult) -> dict[str, Any]:
    """A cell as one flat row, in the order of the columns of results.csv."""
    rungs, quality = cell.rungs, cell.rungs[0].quality if cell.rungs else None
    row: dict[str, Any] = {
        **place(cell),
        "weight_bits": cell.cell.precision.weights,
        "activation_bits": cell.cell.precision.activations,
        "status": cell.status,
        "quality": quality and quality.name,
        "unit": quality and quality.unit,
        "higher_is_better": quality and quality.higher_is_better,
        "validation_images": quality and quality.count,
    }
    for rung in rungs:
        row |= interval(rung.technique, rung.quality)
    if cell.quantized is not None:
        row |= {**interval("quantized", cell.quantized.quality), **interval("loss", cell.loss)}
    row |= _test(cell)
    for target, record in cell.verified.items():
        row |= _verified(target, record, quality)
    row |= _sizes(cell)
    for kind in dict.fromkeys(stage.kind for stage in cell.cell.stages):
        row[f"{kind.name}_seconds"] = cell.seconds(kind)
    exported = cell.record(ExportRecord)
    row["files"] = "; ".join(exported.takes) if exported is not None else ""
    row["notes"] = "; ".join(cell.notes)
    row["error"] = cell.error or ""
    return row


def rung_rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    """One row a rung, the float network first; a loss is against the float network."""
    for index, rung in enumerate(cell.rungs):
        gain = None
        if index and rung.quality is not None and (before := cell.rungs[index - 1]).quality:
            gain = _round(-loss(before.quality, rung.quality).value)
        yield {
            **place(cell),
            "rung": index,
            "technique": rung.technique,
            "quality": rung.quality and rung.quality.name,
            "images": rung.quality and rung.quality.count,
            **interval("value", rung.quality),
            **interval("loss", loss_of(rung, cell.rungs[0]) if index else None),
            "gain": gain,
            "sqnr_db": _round(min(rung.sqnr.values())) if rung.sqnr else None,
            "agreement": None if rung.agreement is None else _round(rung.agreement),
            "seconds": rung.seconds,
            "notes": "; ".join(rung.notes),
        }


def interval(name: str, found: Measurement | Loss | None) -> dict[str, float | None]:
    """The three columns of a quality or a loss."""
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {
        name: _round(found.value),
        f"{name}_low": _round(found.low),
        f"{name}_high": _round(found.high),
    }


def _test(cell: CellResult) -> dict[str, Any]:
    record = cell.record(TestRecord)
    if record is None:
        return {}
    return {
        **interval("test_float", record.float_network),
        **interval("test_quantized", record.quantized),
        **interval("test_loss", loss(record.float_network, record.quantized)),
    }


def _verified(target: str, record: VerifyRecord, trained: Measurement | None) -> dict[str, Any]:
    found = record.comparison
    row: dict[str, Any] = interval(target, found.quality)
    if trained is not None and found.quality is not None and found.quality.count == trained.count:
        row |= interval(f"{target}_loss", loss(trained, found.quality))
    row |= interval(f"{target}_agreement", found.agreement)
    row |= {
        f"{target}_images": found.equal.count,
        f"{target}_simulation": _value(found.simulation),
        f"{target}_equal": _value(found.equal),
        f"{target}_worst_lsb": _round(found.worst_lsb),
        f"{target}_mean_lsb": _round(found.mean_lsb),
        f"{target}_seconds": _round(found.seconds),
        f"{target}_first_difference": first_difference(record),
        f"{target}_cause": cause(record),
    }
    if record.file_bytes is not None:
        row[f"{target}_file_mb"] = record.file_bytes / _MEGABYTE
    for name in ("integer", "precise"):
        beside = getattr(found, name)
        if beside is not None:
            row |= interval(f"{target}_{name}", beside.quality)
            row |= {
                f"{target}_{name}_agreement": _value(beside.agreement),
                f"{target}_{name}_equal": _value(beside.equal),
                f"{target}_{name}_worst_lsb": _round(beside.worst_lsb),
            }
    for name, speed in (record.speeds or {}).items():
        of = target if name == "quantized" else f"{target}_{name}"
        row[f"{of}_latency_ms"] = round(speed.latency_ms, 4)
        row[f"{of}_images_per_second"] = round(speed.images_per_second, 4)
    return row


def _sizes(cell: CellResult) -> dict[str, Any]:
    trained, exported = cell.record(TrainRecord), cell.record(ExportRecord)
    sizes = exported.sizes if exported else {}
    return {
        "parameters": trained and trained.size.parameters,
        "macs": trained and trained.size.macs,
        **{f"{name}_mb": size / _MEGABYTE for name, size in sizes.items()},
    }


def _value(found: Measurement | None) -> float | None:
    return None if found is None else _round(found.value)


def _round(value: float) -> float:
    return round(value, 6)
