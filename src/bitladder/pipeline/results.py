"""What a run found: the cells with their records, and the tables that are written of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bitladder.answer import answer_rows, asked, usual_within
from bitladder.errors import StudyError, unknown
from bitladder.files import write_whole
from bitladder.options import Precision
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.compare import compared
from bitladder.pipeline.curves import CURVE_COLUMNS, curve_rows
from bitladder.pipeline.environment import describe_environment
from bitladder.pipeline.flips import (
    CLASS_COLUMNS,
    CONFUSION_COLUMNS,
    FLIP_COLUMNS,
    class_rows,
    confusion_rows,
    flip_rows,
)
from bitladder.pipeline.layers import LAYER_COLUMNS, layer_rows
from bitladder.pipeline.planning import Cell
from bitladder.pipeline.rows import RUNG_COLUMNS, cell_row, rung_rows
from bitladder.pipeline.search import decide
from bitladder.pipeline.seeds import SEED_COLUMNS, seed_rows
from bitladder.pipeline.stage_records import Record, read_record
from bitladder.pipeline.tables import Table
from bitladder.study import Study

if TYPE_CHECKING:
    import pandas

    from bitladder.pipeline.execute import Outcome

TIMES = ("_seconds", "_latency_ms", "_images_per_second")
"""How columns end that differ from run to run."""
_SHOWN = (
    *("dataset", "model", "precision", "recipe", "seed", "status", "float", "quantized"),
    *("loss", "loss_low", "loss_high", "packed_mb", "file_mb", "error"),
)


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

    def answer(
        self, target: str | None = None, *, within: float | None = None, surely: bool = False
    ) -> pandas.DataFrame:
        """What to ship, a row a network and a target.

        Args:
            target: its name in columns, such as ``htp_v75``, or ``silicon``; by default all.
            within: loss that is allowed, in points where qualities are shares; by default 1 point,
                0.5 dB, or a hundredth of the quality.
            surely: the upper end of the loss's interval must be allowed, not only its value.

        Returns:
            The columns dataset, model, target, ship (None where no precision will do), recipe,
            loss, loss_high, costs, why (narrower ones that gain nothing) and front.

        Raises:
            StudyError: the run has no such target.
        """
        import pandas

        rows = [cell_row(cell) for cell in self.cells]
        allowed = usual_within(rows) if within is None else within
        return pandas.DataFrame(answer_rows(asked(rows, target), allowed, surely=surely))

    def compare(self, recipes: Sequence[str] | None = None) -> pandas.DataFrame:
        """Recipes against the first of them at each precision, pairwise on the same images.

        Args:
            recipes: names, by default all of the study's in order.

        Returns:
            A row a cell of each recipe: what names it, its quality, and ``loss``, ``loss_low``
            and ``loss_high``: how much worse it is than the first recipe's, with the paired 95 %
            interval; below zero where it is better.

        Raises:
            StudyError: the study has no such recipe.
        """
        import pandas

        return pandas.DataFrame(compared(self.cells, recipes))

    def flips(self) -> pandas.DataFrame:
        """The images whose answer quantization changes, the columns of flips.csv."""
        return _TABLES["flips"](self.cells).frame()

    def classes(self) -> pandas.DataFrame:
        """The quality of every class before and after, the columns of classes.csv."""
        return _TABLES["classes"](self.cells).frame()

    def confusion(self) -> pandas.DataFrame:
        """What quantization confuses that was not confused before, the columns of confusion.csv."""
        return _TABLES["confusion"](self.cells).frame()

    def _repr_html_(self) -> str:
        """The table of the results, as notebooks show it."""
        found = self.table()
        shown = [name for name in _SHOWN if name in found.columns]
        told: str = found[shown].to_html(index=False, float_format="{:.4g}".format, na_rep="-")
        return told

    def cell(
        self,
        dataset: str,
        model: str,
        precision: str | int,
        recipe: str | None = None,
        seed: int | None = None,
    ) -> CellResult:
        """The result of one cell.

        Args:
            dataset: what tables call its data set.
            model: what they call its network.
            precision: its bits.
            recipe: its recipe's name; by default the study's first.
            seed: its seed; by default the study's first.

        Raises:
            StudyError: the study has no such cell.
        """
        recipe = recipe or self.study.every_recipe[0].name
        seed = self.study.every_seed[0] if seed is None else seed
        wanted = f"{dataset} {model} {Precision.parse(precision)} {recipe} seed {seed}"
        by_name = {" ".join(_called(cell.cell)): cell for cell in self.cells}
        if wanted not in by_name:
            raise StudyError(unknown("cell", wanted, by_name))
        return by_name[wanted]

    def seeds(self) -> pandas.DataFrame:
        """Mean, deviation and interval over the seeds, the columns of seeds.csv."""
        return _TABLES["seeds"](self.cells).frame()

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
    """Read what the stages wrote down; cells whose stages are not all there yet are pending.

    Of a study that searches, cells that are not needed are so whatever the store has of them.
    """
    read: dict[str, Record] = {}  # cells share stages
    cells = list(cells)
    found = {cell.name: _collect(cell, outcomes, read) for cell in cells}
    if study.within is not None:
        for cell in decide(cells, study.within, lambda one: found[one.name]).dropped:
            found[cell.name] = CellResult(cell, {}, {}, None, needed=False)
    return Results(study, tuple(found.values()), output)


def result_of(cell: Cell, outcomes: Mapping[str, Outcome], read: dict[str, Record]) -> CellResult:
    """What is known of one cell.

    Args:
        cell: the cell.
        outcomes: what became of stages, by key.
        read: records that were read before, by key; gets those that are read now.
    """
    return _collect(cell, outcomes, read)


def _called(cell: Cell) -> tuple[str, ...]:
    place = (cell.dataset_label, cell.model_label, str(cell.precision), cell.recipe.name)
    return (*place, f"seed {cell.seed}")


def _collect(cell: Cell, outcomes: Mapping[str, Outcome], read: dict[str, Record]) -> CellResult:
    records: dict[str, Record] = {}
    folders: dict[str, Path] = {}
    error = None
    for stage in cell.stages:
        outcome = outcomes.get(stage.key)
        if outcome is None:
            continue
        error = error or outcome.error
        if outcome.folder is None:
            continue
        if stage.key not in read:
            read[stage.key] = read_record(outcome.folder, stage.kind.record)
        records[stage.key], folders[stage.key] = read[stage.key], outcome.folder
    return CellResult(cell, records, folders, error)


_TABLES: Mapping[str, Callable[[Sequence[CellResult]], Table]] = {
    "layers": lambda cells: Table(
        [row for cell in cells for row in layer_rows(cell)], empty=LAYER_COLUMNS
    ),
    "curves": lambda cells: Table(list(curve_rows(cells)), empty=CURVE_COLUMNS),
    "rungs": lambda cells: Table(
        [row for cell in cells for row in rung_rows(cell)], empty=RUNG_COLUMNS
    ),
    "flips": lambda cells: Table(
        [row for cell in cells for row in flip_rows(cell)], empty=FLIP_COLUMNS
    ),
    "classes": lambda cells: Table(
        [row for cell in cells for row in class_rows(cell)], empty=CLASS_COLUMNS
    ),
    "confusion": lambda cells: Table(
        [row for cell in cells for row in confusion_rows(cell)], empty=CONFUSION_COLUMNS
    ),
    "seeds": lambda cells: Table(list(seed_rows(cells)), empty=SEED_COLUMNS),
    "results": lambda cells: Table([cell_row(cell) for cell in cells]),
}
