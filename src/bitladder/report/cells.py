"""The cells of a run folder as a reader asks for them, and the lowest precision that will do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from bitladder.accuracy import Accuracy
from bitladder.pipeline.results import AGREES
from bitladder.report.run_folder import RunFolder

ALLOWED = 1.0  # points of accuracy that may be lost where nobody says otherwise
STAGES = ("train", "quantize", "explain", "finetune", "export", "test", "verify")
_TITLES = {"onnxruntime": "ONNX Runtime", "htp": "HTP emulator"}
_SMALL = 0.1  # megabytes
_EXACT = 1e-9  # of a comparison of points
_AGREEMENT = "_agreement"  # ends the column that every target has
_NEXT = "; "  # between notes


@dataclass(frozen=True)
class Share:
    """A share of images, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def percent(self) -> str:
        """The share in percent, with two decimals."""
        return f"{100 * self.value:.2f}"

    @property
    def interval(self) -> str:
        """The interval in percent, with one decimal."""
        return f"{100 * self.low:.1f}\N{EN DASH}{100 * self.high:.1f}"

    def __str__(self) -> str:
        return f"{self.percent} ({self.interval})"


@dataclass(frozen=True)
class TargetResult:
    """What a target made of a cell's file.

    Attributes:
        title: what a reader calls the target.
        images: how many it ran.
        accuracy: on these.
        simulation: accuracy of the simulation on the same images, 0 to 1, or None.
        agreement: images that it puts in the class that the simulation gives.
        integer_equal: share of images whose every logit is that of the integer arithmetic.
        worst_lsb: largest difference of a logit from the simulation, in steps of its grid.
        precise: accuracy of a session whose sums are exact, on the same images, where there is one.
        precise_agreement: share of images to which that session gives the simulation's class.
        precise_equal: share of images whose every logit is that session's.
        latency_ms: milliseconds that it took for one image, or None.
        float_latency_ms: that the float network took on it, or None.
    """

    title: str
    images: int
    accuracy: Share
    simulation: float | None
    agreement: Share
    integer_equal: float | None
    worst_lsb: float
    precise: Share | None
    precise_agreement: float | None
    precise_equal: float | None
    latency_ms: float | None
    float_latency_ms: float | None

    @property
    def agrees(self) -> bool:
        """Whether it leaves the simulation on no more images than need no explanation."""
        return self.agreement.value >= AGREES

    @property
    def saturates(self) -> bool:
        """Whether a logit of it is another than with exact sums."""
        return self.precise_equal is not None and self.precise_equal < 1

    @property
    def sound(self) -> bool:
        """Whether it agrees, and computes the same in every session."""
        return self.agrees and not self.saturates

    @property
    def verdict(self) -> str:
        """The agreement in words."""
        told = f"{'agrees' if self.agrees else 'differs'}, {self.agreement.percent} %"
        return f"{told}; {self.saturation}" if self.saturates else told

    @property
    def saturation(self) -> str:
        """What its users' own session loses against one whose sums are exact, where it does."""
        if not self.saturates or self.precise is None or self.precise_agreement is None:
            return ""
        return (
            f"16-bit sums saturate: accuracy {self.accuracy.percent} % where exact sums have "
            f"{self.precise.percent} %, agreement {self.agreement.percent} % where they have "
            f"{100 * self.precise_agreement:.2f} %"
        )


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
        trained: accuracy of the float network.
        final: accuracy of the last rung.
        test: accuracy of the last rung on the official test split.
        targets: what each target said, by name.
        sizes: megabytes: ``float``, ``packed``, ``file``, perhaps ``dlc`` and ``context``.
        seconds: of each stage.
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
    trained: Share | None
    final: Share | None
    test: Share | None
    targets: Mapping[str, TargetResult]
    sizes: Mapping[str, float]
    seconds: Mapping[str, float]
    notes: str
    error: str

    @property
    def loss(self) -> float | None:
        """Points of accuracy lost from the float network to the quantized one.

        The largest of the simulation's and of the targets' that ran the whole validation split.
        """
        if self.trained is None or self.final is None or self.status != "complete":
            return None
        whole = [
            target.accuracy.value
            for target in self.targets.values()
            if target.images == self.images
        ]
        return 100 * (self.trained.value - min([self.final.value, *whole]))


@dataclass(frozen=True)
class Pair:
    """A network on a data set, with its cells, the lowest precision first."""

    dataset: str
    model: str
    cells: tuple[ReportedCell, ...]

    @property
    def trained(self) -> Share | None:
        """Accuracy of the float network, where a cell has reached it."""
        return next((cell.trained for cell in self.cells if cell.trained is not None), None)

    @property
    def megabytes(self) -> float | None:
        """Size of the float network, where it is known."""
        return next((cell.sizes["float"] for cell in self.cells if "float" in cell.sizes), None)

    @property
    def advice(self) -> str:
        """What to do where no precision will do."""
        if all(cell.loss is None for cell in self.cells):
            return "No cell is complete."
        return "Allow more loss, or train longer."

    def lowest(self, allowed: float) -> ReportedCell | None:
        """The lowest precision that loses no more than ``allowed`` points, or None."""
        for cell in self.cells:
            if cell.loss is not None and cell.loss <= allowed + _EXACT:
                return cell
        return None


def read_cells(run: RunFolder) -> list[ReportedCell]:
    """The cells in the order of results.csv."""
    columns = [str(column) for column in run.results.columns]
    names = [name.removesuffix(_AGREEMENT) for name in columns if name.endswith(_AGREEMENT)]
    names = [name for name in names if f"{name}_images" in columns]  # a target's, not a session's
    rows: list[dict[str, Any]] = run.results.to_dict("records")  # type: ignore[assignment]
    return [_cell(index, row, names) for index, row in enumerate(rows)]


def pairs(cells: Sequence[ReportedCell]) -> list[Pair]:
    """The cells by data set and network, in the order of the study.

    The lowest precision has the fewest bits of weights, then of activations, then the smallest
    packed weights.
    """
    found: dict[tuple[str, str], list[ReportedCell]] = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.model), []).append(cell)
    return [
        Pair(*place, tuple(sorted(those, key=lambda c: (*c.bits, c.sizes.get("packed", 0.0)))))
        for place, those in found.items()
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


def target_title(name: str) -> str:
    """What a reader calls a target, e.g. ``HTP emulator v75`` for ``htp_v75``."""
    kind, _, version = name.partition("_")
    return " ".join(filter(None, (_TITLES.get(kind, kind), version)))


def _cell(index: int, row: Mapping[str, Any], targets: Sequence[str]) -> ReportedCell:
    sizes = {name: row.get(f"{name}_mb") for name in ("float", "packed", "file", "dlc", "context")}
    seconds = {stage: row.get(f"{stage}_seconds") for stage in STAGES}
    return ReportedCell(
        index=index,
        dataset=row["dataset"],
        model=row["model"],
        precision=row["precision"],
        bits=(int(row["weight_bits"]), int(row["activation_bits"])),
        status=row["status"],
        images=int(number(row["validation_images"]) or 0),
        trained=_share(row, "trained"),
        final=_share(row, "quantized"),
        test=_share(row, "test_quantized"),
        targets={
            name: _target(row, name)
            for name in targets
            if number(row[f"{name}_agreement"]) is not None
        },
        sizes={name: size for name, size in sizes.items() if number(size) is not None},  # type: ignore[misc]
        seconds={name: time for name, time in seconds.items() if number(time) is not None},  # type: ignore[misc]
        notes=str(row.get("notes", "")),
        error=str(row.get("error", "")),
    )


def _target(row: Mapping[str, Any], name: str) -> TargetResult:
    accuracy, images = _share(row, name), int(row[f"{name}_images"])
    assert accuracy is not None
    agreed = Accuracy(round(row[f"{name}_agreement"] * images), images)
    return TargetResult(
        title=target_title(name),
        images=images,
        accuracy=accuracy,
        simulation=number(row.get(f"{name}_simulation_acc")),
        agreement=Share(agreed.value, *agreed.interval),
        integer_equal=number(row.get(f"{name}_integer_equal")),
        worst_lsb=float(row[f"{name}_worst_lsb"]),
        precise=_share(row, f"{name}_precise"),
        precise_agreement=number(row.get(f"{name}_precise_agreement")),
        precise_equal=number(row.get(f"{name}_precise_equal")),
        latency_ms=number(row.get(f"{name}_latency_ms")),
        float_latency_ms=number(row.get(f"{name}_float_latency_ms")),
    )


def _share(row: Mapping[str, Any], name: str) -> Share | None:
    found = [number(row.get(f"{name}_acc{end}")) for end in ("", "_low", "_high")]
    return None if None in found else Share(*found)  # type: ignore[arg-type]


def number(value: Any) -> float | None:
    """A value of a table, or None where there is none or where it is infinite."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
