"""What a run found: one row a cell, one row a rung, read from the records of the stages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bitladder.accuracy import Accuracy
from bitladder.errors import StoreError, StudyError, unknown
from bitladder.files import write_whole
from bitladder.options import Precision, TargetOptions
from bitladder.pipeline import curves, layers
from bitladder.pipeline.environment import describe_environment
from bitladder.pipeline.graph import Cell, Stage
from bitladder.pipeline.tables import Table
from bitladder.pipeline.versions import Kind
from bitladder.study import Study

if TYPE_CHECKING:
    import pandas

    from bitladder.pipeline.execute import Outcome

Status = Literal["complete", "failed", "pending"]
_MEGABYTE = 1e6
_MEASURED: tuple[Kind, ...] = ("train", "quantize", "finetune", "export")  # have rungs
TIMES = ("_seconds", "_latency_ms", "_images_per_second")
"""How columns end that differ from run to run."""
AGREES = 0.995  # share of the images on which a target must agree to need no explanation


@dataclass(frozen=True)
class Rung:
    """The measured state of a cell after one technique.

    Attributes:
        name: name of the technique; ``float`` is the trained network.
        accuracy: on the whole validation split.
        seconds: time the technique took, without the measurement.
        notes: what the technique said about its work.
    """

    name: str
    accuracy: Accuracy
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CellResult:
    """Everything a run found about one cell.

    Attributes:
        cell: the cell.
        records: what each stage wrote down, by kind.
        verified: what each target said, by the target's name.
        folders: the stages' outputs, by kind.
        error: why the cell failed, one line, or None.
    """

    cell: Cell
    records: Mapping[Kind, Mapping[str, Any]]
    verified: Mapping[str, Mapping[str, Any]]
    folders: Mapping[Kind, Path]
    error: str | None

    @property
    def status(self) -> Status:
        """``failed``, ``complete``, or ``pending`` while stages are still to run."""
        if self.error is not None:
            return "failed"
        kinds = {stage.kind for stage in self.cell.stages}
        targets = {_label(stage) for stage in self.cell.stages if stage.kind == "verify"}
        there = kinds <= self.records.keys() and targets <= self.verified.keys()
        return "complete" if there else "pending"

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs that were reached, the float network first."""
        found: list[Rung] = []
        for kind in _MEASURED:
            for rung in self.records.get(kind, {}).get("rungs", ()):
                accuracy = Accuracy(**rung["accuracy"])
                name = _numbered(rung["technique"], found)
                found.append(Rung(name, accuracy, rung["seconds"], tuple(rung["notes"])))
        return tuple(found)

    @property
    def quantized(self) -> Accuracy | None:
        """Accuracy of the last rung, or None while there is none on integers."""
        last = [stage.kind for stage in self.cell.stages if stage.kind in _MEASURED][-1]
        return self.rungs[-1].accuracy if last in self.records else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: code that cannot be seen, notes, what is amiss on a target."""
        notes = [*self.cell.unseen, *self.records.get("train", {}).get("notes", ())]
        for target, record in self.verified.items():
            notes += [f"{target}: {fallback}" for fallback in record["fallbacks"]]
            notes += [f"{target}: {reason}" for reason in _disagreement(record)]
            notes += [f"{target}: {told}" for told in filter(None, [record.get("saturation")])]
        differences = self.records.get("export", {}).get("dlc_differences", ())
        return (*notes, *(f"dlc: {difference}" for difference in differences))

    def artifact(self, name: str) -> Path:
        """Path of a file the cell's stages wrote, such as ``model.onnx``.

        Raises:
            StoreError: there is none of that name.
        """
        for folder in reversed(list(self.folders.values())):
            if (folder / name).is_file():
                return folder / name
        raise StoreError(f"{self.cell.name}: there is no '{name}' among its files")

    def row(self) -> dict[str, Any]:
        """The cell as one flat row, in the order of the columns of results.csv."""
        cell, rungs = self.cell, self.rungs
        row: dict[str, Any] = {
            "dataset": cell.dataset_label,
            "model": cell.model_label,
            "precision": str(cell.precision),
            "weight_bits": cell.precision.weights,
            "activation_bits": cell.precision.activations,
            "status": self.status,
            "validation_images": rungs[0].accuracy.total if rungs else None,
        }
        for rung in rungs:
            row |= _with_interval("trained" if rung.name == "float" else rung.name, rung.accuracy)
        row |= self._final(rungs[0].accuracy if rungs else None)
        row |= self._test()
        row |= self._verified()
        row |= self._sizes()
        for kind in dict.fromkeys(stage.kind for stage in cell.stages):
            row[f"{kind}_seconds"] = self.records.get(kind, {}).get("seconds")
        row["notes"] = "; ".join(self.notes)
        row["error"] = self.error or ""
        return row

    def _final(self, trained: Accuracy | None) -> dict[str, Any]:
        if self.quantized is None or trained is None:
            return {}
        loss = trained.value - self.quantized.value
        return {**_with_interval("quantized", self.quantized), "quantized_loss": _round(loss)}

    def _test(self) -> dict[str, Any]:
        record = self.records.get("test")
        if record is None:
            return {}
        return {
            **_with_interval("test_trained", Accuracy(**record["float"])),
            **_with_interval("test_quantized", Accuracy(**record["simulated"])),
        }

    def _verified(self) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for target, record in self.verified.items():
            found = record["comparison"]
            row |= _with_interval(target, Accuracy(**found["accuracy"]))
            row[f"{target}_agreement"] = _round(Accuracy(**found["agreement"]).value)
            row[f"{target}_images"] = found["accuracy"]["total"]
            row[f"{target}_simulation_acc"] = _round(Accuracy(**found["simulation"]).value)
            for measure in ("worst_lsb", "mean_lsb", "seconds"):
                name = f"{target}_{measure}"
                row[name] = _round(found[measure])
            if found.get("integer") is not None:
                row |= _with_interval(f"{target}_integer", Accuracy(**found["integer"]))
                equal = Accuracy(**found["integer_equal"]).value
                row[f"{target}_integer_equal"] = _round(equal)
                row[f"{target}_integer_worst_lsb"] = _round(found["integer_worst_lsb"])
            if found.get("precise") is not None:
                row |= _with_interval(f"{target}_precise", Accuracy(**found["precise"]))
                for measure in ("agreement", "equal"):
                    share = Accuracy(**found[f"precise_{measure}"]).value
                    row[f"{target}_precise_{measure}"] = _round(share)
                row[f"{target}_precise_worst_lsb"] = _round(found["precise_worst_lsb"])
            for name, speed in record.get("speeds", {}).items():
                for measure, value in speed.items():
                    of = target if name == "quantized" else f"{target}_{name}"
                    row[f"{of}_{measure}"] = round(value, 4)
        return row

    def _sizes(self) -> dict[str, Any]:
        summary = self.records.get("train", {}).get("summary", {})
        export = self.records.get("export", {})
        sizes = {
            **export.get("sizes", {}),
            **{name: export[name] for name in ("dlc_bytes", "context_bytes") if name in export},
        }
        return {
            "parameters": summary.get("parameters"),
            "macs": summary.get("macs"),
            **{
                f"{name.removesuffix('_bytes')}_mb": value / _MEGABYTE
                for name, value in sizes.items()
            },
        }


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
        study: the study as it was resolved.
        cells: one result a cell, in the study's order.
        output: folder the files are written to.
    """

    study: Study
    cells: tuple[CellResult, ...]
    output: Path = field(default_factory=Path)

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that failed."""
        return tuple(cell for cell in self.cells if cell.error is not None)

    def table(self) -> pandas.DataFrame:
        """One row a cell, the columns of results.csv."""
        return _TABLES["results"](self.cells).frame()

    def rungs(self) -> pandas.DataFrame:
        """One row a rung of a cell, the columns of rungs.csv."""
        return _TABLES["rungs"](self.cells).frame()

    def curves(self) -> pandas.DataFrame:
        """One row a logged step of training and fine-tuning, the columns of curves.csv."""
        return _TABLES["curves"](self.cells).frame()

    def layers(self) -> pandas.DataFrame:
        """One row a quantizer of a cell that was explained, the columns of layers.csv."""
        return _TABLES["layers"](self.cells).frame()

    def cell(self, dataset: str, model: str, precision: str | int) -> CellResult:
        """The result of one cell.

        Raises:
            StudyError: the study has no such cell.
        """
        wanted = f"{dataset} {model} {Precision.parse(precision)}"
        by_name = {
            f"{cell.cell.dataset_label} {cell.cell.model_label} {cell.cell.precision}": cell
            for cell in self.cells
        }
        if wanted not in by_name:
            raise StudyError(unknown("cell", wanted, by_name))
        return by_name[wanted]

    def write(self, *, computed: bool = True) -> None:
        """Write the tables, study.yaml and environment.json, each whole or not at all.

        Args:
            computed: this run has computed something; if not, the machine and the day on which
                it was computed stay as an earlier run wrote them.

        Raises:
            StoreError: the folder cannot be written.
        """
        write_whole(self.output / "study.yaml", self.study.to_yaml())
        environment = self.output / "environment.json"
        if computed or not environment.exists():
            write_whole(environment, json.dumps(describe_environment(), indent=1) + "\n")
        for name, table in _TABLES.items():
            write_whole(self.output / f"{name}.csv", table(self.cells).csv())


def collect(
    study: Study, cells: Iterable[Cell], outcomes: Mapping[str, Outcome], output: Path
) -> Results:
    """Read what the stages wrote down; cells whose stages are not all there yet are pending."""
    return Results(study, tuple(_collect(cell, outcomes) for cell in cells), output)


def _collect(cell: Cell, outcomes: Mapping[str, Outcome]) -> CellResult:
    records: dict[Kind, dict[str, Any]] = {}
    verified: dict[str, dict[str, Any]] = {}
    folders: dict[Kind, Path] = {}
    error = None
    for stage in cell.stages:
        outcome = outcomes.get(stage.key)
        if outcome is None:
            continue
        error = error or outcome.error
        if outcome.folder is None:
            continue
        record = json.loads((outcome.folder / "record.json").read_text())
        folders[stage.kind] = outcome.folder
        if stage.kind == "verify":
            verified[_label(stage)] = record
            before = records.get("verify", {"seconds": 0.0})["seconds"]
            record = {"seconds": round(before + record["seconds"], 3)}
        records[stage.kind] = record
    return CellResult(cell, records, verified, folders, error)


def _label(stage: Stage) -> str:
    return TargetOptions.model_validate(stage.spec["target"]).label


def saturates(comparison: Mapping[str, Any]) -> bool:
    """Whether a target's logits are others than with exact sums, by its record."""
    equal = comparison.get("precise_equal")
    return equal is not None and equal["correct"] < equal["total"]


def _disagreement(record: Mapping[str, Any]) -> Iterable[str]:
    """Where and why a target leaves the simulation, if it does on more images than it may."""
    found, first = record["comparison"], record["first_layer"]
    agreement = Accuracy(**found["agreement"])
    if agreement.value >= AGREES:
        return
    equal = found.get("integer_equal") and Accuracy(**found["integer_equal"])
    if first is None:
        where = "no layer was found to differ"
    else:
        share = f"{100 * first['share']:.2g} % of its values"
        where = f"first differs in {first['name']}, by {first['worst']} in {share}"
    if saturates(found):
        reason = "its 16-bit sums saturate"
    elif equal and equal.correct == equal.total:
        reason = "the simulation's float32 sums, since the integer arithmetic gives every logit"
    else:
        reason = "the target's own rounding"
    yield f"agrees on {100 * agreement.value:.2f} % of the images; {where}: {reason}"


def _rung_rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    before: Accuracy | None = None
    for index, rung in enumerate(cell.rungs):
        gain = None if before is None else _round(rung.accuracy.value - before.value)
        yield {
            "dataset": cell.cell.dataset_label,
            "model": cell.cell.model_label,
            "precision": str(cell.cell.precision),
            "rung": index,
            "technique": rung.name,
            "correct": rung.accuracy.correct,
            "images": rung.accuracy.total,
            **_with_interval("", rung.accuracy),
            "gain": gain,
            "seconds": rung.seconds,
            "notes": "; ".join(rung.notes),
        }
        before = rung.accuracy


_TABLES: Mapping[str, Callable[[Sequence[CellResult]], Table]] = {
    "layers": lambda cells: Table(
        [row for cell in cells for row in layers.layer_rows(cell)], empty=layers.COLUMNS
    ),
    "curves": lambda cells: Table(list(curves.curve_rows(cells)), empty=curves.COLUMNS),
    "rungs": lambda cells: Table(
        [row for cell in cells for row in _rung_rows(cell)],
        empty=("dataset", "model", "precision", "rung", "technique"),
    ),
    "results": lambda cells: Table([cell.row() for cell in cells]),
}


def _numbered(name: str, found: Sequence[Rung]) -> str:
    """A technique that a recipe applies twice makes two rungs with two names."""
    times = Counter(rung.name.partition("#")[0] for rung in found)[name]
    return name if not times else f"{name}#{times + 1}"


def _with_interval(name: str, accuracy: Accuracy) -> dict[str, float]:
    prefix = f"{name}_" if name else ""
    low, high = accuracy.interval
    return {
        f"{prefix}acc": _round(accuracy.value),
        f"{prefix}acc_low": _round(low),
        f"{prefix}acc_high": _round(high),
    }


def _round(value: float) -> float:
    return round(value, 6)
