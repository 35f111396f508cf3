"""The cells of a run folder as a reader asks for them, and the lowest precision that will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from bitladder.answer import Place, target_names, target_title
from bitladder.csv_text import plain
from bitladder.pipeline.cell_result import AGREES
from bitladder.pipeline.kinds import KINDS
from bitladder.report.quality import Estimate, Scale, Slider, estimate, number
from bitladder.report.run_folder import RunFolder
from bitladder.rungs import FLOAT

SIMULATION = "simulation"
_SMALL = 0.1  # megabytes
_MEGABYTES, _SECONDS = "_mb", "_seconds"
_NEXT = "; "  # between notes


@dataclass(frozen=True)
class TargetResult:
    """What a target made of a cell's file.

    Attributes:
        title: what a reader calls the target.
        images: how many it ran.
        scale: of the qualities.
        quality: on these images, or None where nothing says what is right.
        simulation: quality of the simulation on the same images, or None.
        loss: against the float network, or None where it did not run every validation image.
        agreement: mean share in which its answers are the simulation's, or None where the task
            does not say.
        equal: share of images whose every value is the simulation's, or None.
        integer_equal: share of images whose every value is that of the integer arithmetic.
        worst_lsb: largest difference of a value from the simulation, in steps of its grid.
        first: the first layer that it computes differently, and by how much, or empty.
        cause: why its values are not all the simulation's, or empty.
        megabytes: of the file that it loads, or None of older runs.
        precise: quality of a session whose sums are exact, on the same images, where there is one.
        precise_agreement: of that session with the simulation.
        precise_equal: share of images whose every value is that session's.
        latency_ms: milliseconds that it took for one image, or None.
        float_latency_ms: that the float network took on it, or None.
    """

    title: str
    images: int
    scale: Scale
    quality: Estimate | None
    simulation: Estimate | None
    loss: Estimate | None
    agreement: Estimate | None
    equal: Estimate | None
    integer_equal: Estimate | None
    worst_lsb: float
    first: str
    cause: str
    megabytes: float | None
    precise: Estimate | None
    precise_agreement: Estimate | None
    precise_equal: Estimate | None
    latency_ms: float | None
    float_latency_ms: float | None

    @property
    def agrees(self) -> bool:
        """Whether it leaves the simulation no more than needs no explanation."""
        return self.agreement is None or self.agreement.value >= AGREES

    @property
    def saturates(self) -> bool:
        """Whether a value of it is another than with exact sums."""
        return self.precise_equal is not None and self.precise_equal.value < 1

    @property
    def sound(self) -> bool:
        """Whether it agrees, and computes the same in every session."""
        return self.agrees and not self.saturates

    @property
    def exact(self) -> bool:
        """Whether its every value is the integer arithmetic's."""
        return self.integer_equal is not None and self.integer_equal.value == 1

    @property
    def difference(self) -> str:
        """Where it first leaves the simulation, and why."""
        return ": ".join(filter(None, (self.first, self.cause)))

    @property
    def verdict(self) -> str:
        """The agreement in words."""
        if self.agreement is not None:
            told = f"{'agrees' if self.agrees else 'differs'}, {self.agreement.told}"
        elif self.equal is not None:
            told = f"equal to the last bit on {self.equal.told}"
        else:
            told = f"differs by at most {self.worst_lsb:.0f} LSB"
        return f"{told}; {self.saturation}" if self.saturates else told

    @property
    def saturation(self) -> str:
        """What its users' own session loses against one whose sums are exact, where it does."""
        pairs = (
            (self.scale.name, self.quality, self.precise),
            ("agreement", self.agreement, self.precise_agreement),
        )
        costs = ", ".join(
            f"{name} {here.told} where exact sums have {exact.told}"
            for name, here, exact in pairs
            if here is not None and exact is not None
        )
        return f"16-bit sums saturate: {costs}" if self.saturates and costs else ""


@dataclass(frozen=True)
class ReportedCell:
    """One cell of the run; what it did not reach is None or empty.

    Attributes:
        index: its row in results.csv.
        dataset: name of the data set.
        model: name of the network.
        precision: as it is written in studies.
        bits: of weights, then of activations.
        status: ``complete``, ``failed`` or ``pending``.
        images: of the validation split.
        scale: of its qualities.
        trained: quality of the float network.
        quantized: quality of the last rung.
        loss: of the last rung against the float network, with its paired interval.
        test: quality of the last rung on the official test split.
        targets: what each target said, by name.
        sizes: megabytes: ``float``, ``packed``, ``file``, perhaps ``dlc`` and ``context``.
        seconds: of each stage.
        files: what its files take of an image and give.
        notes: what a reader must know.
        error: why it failed.
    """

    index: int
    dataset: str
    model: str
    precision: str
    bits: tuple[int, int]
    status: str
    images: int
    scale: Scale
    trained: Estimate | None
    quantized: Estimate | None
    loss: Estimate | None
    test: Estimate | None
    targets: Mapping[str, TargetResult]
    sizes: Mapping[str, float]
    seconds: Mapping[str, float]
    files: str
    notes: str
    error: str

    @property
    def losses(self) -> Mapping[str, Estimate]:
        """The losses that count, by who has them: the simulation and whoever ran every image."""
        if self.loss is None or self.status != "complete":
            return {}
        losses = {target.title: target.loss for target in self.targets.values()}
        found = {name: loss for name, loss in losses.items() if loss is not None}
        return {SIMULATION: self.loss, **found}

    @property
    def worst_by(self) -> str:
        """Who has the worst of the losses that count, or empty."""
        losses = self.losses
        return max(losses, key=lambda name: losses[name].value, default="")

    @property
    def worst(self) -> Estimate | None:
        """The worst of the losses that count, as measured."""
        return self.losses.get(self.worst_by)


@dataclass(frozen=True)
class Network:
    """A network on a data set, with its cells, the lowest precision first.

    Attributes:
        dataset: its name.
        model: its name.
        cells: of the network.
        places: what is asked of it, one a target.
    """

    dataset: str
    model: str
    cells: tuple[ReportedCell, ...]
    places: tuple[Place, ...] = ()

    @property
    def trained(self) -> Estimate | None:
        """Quality of the float network, where a cell has reached it."""
        return next((cell.trained for cell in self.cells if cell.trained is not None), None)

    @property
    def megabytes(self) -> float | None:
        """Size of the float network, where it is known."""
        return next((cell.sizes["float"] for cell in self.cells if "float" in cell.sizes), None)

    @property
    def advice(self) -> str:
        """What to do where no precision will do."""
        if all(cell.worst is None for cell in self.cells):
            return "No cell is complete."
        return "Allow more loss, or train longer."


def read_scale(run: RunFolder) -> Scale:
    """The quality of a run, whose cells have one task; of no name where no cell has any."""
    for row in run.rows:
        if row["quality"]:
            less = str(row["higher_is_better"]).lower() in ("false", "0", "0.0")
            return Scale(row["quality"], row["unit"], not less)
    return Scale()


def slider(cells: Sequence[ReportedCell], scale: Scale) -> Slider:
    """The losses that a reader of these cells may allow."""
    sizes = [abs(cell.trained.value) for cell in cells if cell.trained is not None]
    return Slider.of(scale, max(sizes, default=0.0))


def read_cells(run: RunFolder) -> list[ReportedCell]:
    """The cells in the order of results.csv."""
    rows = run.rows
    names = target_names(rows)
    scale = read_scale(run)
    return [_cell(index, row, names, scale) for index, row in enumerate(rows)]


def pairs(cells: Sequence[ReportedCell], places: Sequence[Place] = ()) -> list[Network]:
    """The cells by data set and network, in the order of the study, with their targets.

    The lowest precision has the fewest bits of weights, then of activations, then the smallest
    packed weights.
    """
    found: dict[tuple[str, str], list[ReportedCell]] = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.model), []).append(cell)
    return [
        Network(
            *pair,
            tuple(sorted(those, key=lambda c: (*c.bits, c.sizes.get("packed", 0.0)))),
            tuple(place for place in places if (place.dataset, place.model) == pair),
        )
        for pair, those in found.items()
    ]


def in_order(cells: Sequence[ReportedCell]) -> list[str]:
    """The precisions of the run, the highest first."""
    ranks = {cell.precision: (*cell.bits, cell.sizes.get("packed", 0.0)) for cell in cells}
    return sorted(ranks, key=lambda name: ranks[name], reverse=True)


def shared_note(cells: Sequence[ReportedCell]) -> str:
    """The notes that all of these cells begin with, such as those of their data set."""
    notes = [cell.notes.split(_NEXT) for cell in cells if cell.status == "complete"]
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*notes, strict=False))
    return _NEXT.join(parts[0] for parts in alike)


def megabytes_text(size: float) -> str:
    """A size with two decimals, or two digits where it is too small for them."""
    return f"{size:.2f}" if size >= _SMALL else f"{size:.2g}"


def _cell(index: int, row: Mapping[str, Any], targets: Sequence[str], scale: Scale) -> ReportedCell:
    loaded = [f"{name}_file" for name in targets]  # their own columns, beside those of the cell
    return ReportedCell(
        index=index,
        dataset=row["dataset"],
        model=row["model"],
        precision=row["precision"],
        bits=(int(row["weight_bits"]), int(row["activation_bits"])),
        status=row["status"],
        images=int(number(row["validation_images"]) or 0),
        scale=scale,
        trained=estimate(row, FLOAT, scale.unit),
        quantized=estimate(row, "quantized", scale.unit),
        loss=estimate(row, "loss", scale.unit),
        test=estimate(row, "test_quantized", scale.unit),
        targets={
            name: _target(row, name, scale)
            for name in targets
            if number(row[f"{name}_images"]) is not None
        },
        sizes={
            name: size for name, size in _numbers(row, _MEGABYTES).items() if name not in loaded
        },
        seconds={name: time for name, time in _numbers(row, _SECONDS).items() if name in KINDS},
        files=str(row.get("files", "")),
        notes=str(row.get("notes", "")),
        error=str(row.get("error", "")),
    )


def _numbers(row: Mapping[str, Any], ending: str) -> dict[str, float]:
    """The numbers of the columns with an ending, by the columns' names without it."""
    found = {
        name.removesuffix(ending): number(value)
        for name, value in row.items()
        if name.endswith(ending)
    }
    return {name: value for name, value in found.items() if value is not None}


def _words(row: Mapping[str, Any], name: str) -> str:
    """A column of words, empty where older runs have none."""
    found = row.get(name)
    return plain(found) if isinstance(found, str) else ""


def _target(row: Mapping[str, Any], name: str, scale: Scale) -> TargetResult:
    return TargetResult(
        title=target_title(name),
        images=int(row[f"{name}_images"]),
        scale=scale,
        quality=estimate(row, name, scale.unit),
        simulation=estimate(row, f"{name}_simulation", scale.unit),
        loss=estimate(row, f"{name}_loss", scale.unit),
        agreement=estimate(row, f"{name}_agreement"),
        equal=estimate(row, f"{name}_equal"),
        integer_equal=estimate(row, f"{name}_integer_equal"),
        worst_lsb=float(row[f"{name}_worst_lsb"]),
        first=_words(row, f"{name}_first_difference"),
        cause=_words(row, f"{name}_cause"),
        megabytes=number(row.get(f"{name}_file_mb")),
        precise=estimate(row, f"{name}_precise", scale.unit),
        precise_agreement=estimate(row, f"{name}_precise_agreement"),
        precise_equal=estimate(row, f"{name}_precise_equal"),
        latency_ms=number(row.get(f"{name}_latency_ms")),
        float_latency_ms=number(row.get(f"{name}_float_latency_ms")),
    )
