"""Everything a run found about one cell, from the records of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, cast

from bitladder.errors import StoreError
from bitladder.measurement import Loss
from bitladder.pipeline.kinds import StageKind
from bitladder.pipeline.planning import Cell
from bitladder.pipeline.stage_records import (
    ClimbRecord,
    ExportRecord,
    Record,
    TrainRecord,
    VerifyRecord,
)
from bitladder.rungs import Rung, loss_of
from bitladder.target_specs import known

Status = Literal["complete", "failed", "pending", "not needed"]
_IN_FLOAT = "computed in float"  # ends a target's note of layers that leave the integers
AGREES = 0.995  # mean agreement that a target must reach to need no explanation
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class CellResult:
    """Everything a run found about one cell.

    Attributes:
        cell: the cell.
        records: what each stage wrote down, by its key.
        folders: the stages' outputs, by their keys.
        error: why the cell failed, one line, or None.
        needed: False where a search for an answer does without it.
    """

    cell: Cell
    records: Mapping[str, Record]
    folders: Mapping[str, Path]
    error: str | None
    needed: bool = True

    @property
    def status(self) -> Status:
        """``failed``, ``complete``, ``not needed``, or ``pending`` while it is still to run."""
        if not self.needed:
            return "not needed"
        if self.error is not None:
            return "failed"
        return "complete" if self.records.keys() >= set(self.cell.keys) else "pending"

    def record(self, kind: type[R]) -> R | None:
        """What the stage wrote down whose record is of that type, or None."""
        return next((one for one in self.records.values() if isinstance(one, kind)), None)

    @cached_property
    def verified(self) -> Mapping[str, VerifyRecord]:
        """What each target said, by the target's name, in the study's order."""
        found = (one for one in self.records.values() if isinstance(one, VerifyRecord))
        return {one.target: one for one in found}

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs that were reached, the float network first.

        A technique that a recipe applies twice makes two rungs with two names.
        """
        found: list[Rung] = []
        for stage in self.cell.stages:
            record = self.records.get(stage.key)
            if record is not None and stage.kind.measured:
                for rung in cast(ClimbRecord, record).rungs:
                    before = sum(one.technique.partition("#")[0] == rung.technique for one in found)
                    name = f"{rung.technique}#{before + 1}" if before else rung.technique
                    found.append(replace(rung, technique=name))
        return tuple(found)

    @property
    def quantized(self) -> Rung | None:
        """The last rung, or None while there is none on integers."""
        last = [stage for stage in self.cell.stages if stage.kind.measured][-1]
        return self.rungs[-1] if last.key in self.records else None

    @cached_property
    def loss(self) -> Loss | None:
        """What the last rung loses against the float network, or None while it is not reached."""
        return None if self.quantized is None else loss_of(self.quantized, self.rungs[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: what its stages leave out, notes, what is amiss on a target."""
        trained, exported = self.record(TrainRecord), self.record(ExportRecord)
        notes = [*self.cell.remarks, *(trained.notes if trained else ())]
        for target, record in self.verified.items():
            told = [*record.notes, *_disagreement(record), record.saturation]
            notes += [f"{target}: {one}" for one in told if one]
        return (*notes, *(f"dlc: {one}" for one in (exported.dlc_differences if exported else ())))

    def artifact(self, name: str) -> Path:
        """Path of a file the cell's stages wrote, such as ``model.onnx``.

        Raises:
            StoreError: there is none of that name.
        """
        for folder in reversed(list(self.folders.values())):
            if (folder / name).is_file():
                return folder / name
        raise StoreError(f"{self.cell.name}: there is no '{name}' among its files")

    def seconds(self, kind: StageKind) -> float | None:
        """What its stages of a kind took together, or None where none has ended."""
        took = [
            self.records[stage.key].seconds
            for stage in self.cell.stages
            if stage.kind is kind and stage.key in self.records
        ]
        return round(sum(took), 3) if took else None


def _disagreement(record: VerifyRecord) -> Iterable[str]:
    """Where and why a target leaves the simulation, if it does on more images than it may."""
    found = record.comparison
    if found.agreement is None or found.agreement.value >= AGREES:
        return
    first = first_difference(record)
    where = f"first differs in {first}" if first else "no layer was found to differ"
    yield f"agrees on {100 * found.agreement.value:.2f} % of the images; {where}: {cause(record)}"


def first_difference(record: VerifyRecord) -> str:
    """The first layer that a target computes differently, and by how much; empty without one."""
    first = record.first_layer
    if first is None:
        return ""
    return f"{first.name}, by {first.worst} in {100 * first.share:.2g} % of its values"


def cause(record: VerifyRecord) -> str:
    """Why a target's values are not all the simulation's; empty where they are."""
    found = record.comparison
    if found.equal.value == 1:
        return ""
    exact = found.integer is not None and found.integer.equal.value == 1
    if found.saturates:
        return "its 16-bit sums saturate"
    if exact and _has_own_arithmetic(record.target):
        return (
            "its own rounding and the simulation's float32 sums; its arithmetic gives every value"
        )
    if exact:
        return "the simulation's float32 sums, since the integer arithmetic gives every value"
    if any(note.endswith(_IN_FLOAT) for note in record.notes):
        return "the float sums of layers that it computes in float"
    return "the target's own rounding"


def _has_own_arithmetic(target: str) -> bool:
    """Whether a target's integers are other ones than ONNX Runtime's, and known."""
    spec = known().get(target)
    return spec is not None and spec.open_integer is not None and spec.name != "onnxruntime"
