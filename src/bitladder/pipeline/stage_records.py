"""What stages write down: a dataclass a kind, stored as JSON and read back; free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bitladder import records
from bitladder.errors import StoreError
from bitladder.measurement import Measurement
from bitladder.models.size import NetworkSize
from bitladder.rungs import Rung
from bitladder.targets.comparison import Comparison

_FILE = "record.json"


@dataclass(frozen=True)
class TrainRecord:
    """Float training, or weights that were loaded.

    Attributes:
        rungs: the float network.
        size: of the network.
        notes: on its images and its weights.
        epochs: epochs begun; none where weights were loaded.
        steps: optimizer steps done.
        lr: learning rate, the peak of the schedule.
        history: one row a log, see ``training.FitResult``.
        seconds: the whole stage took.
    """

    rungs: tuple[Rung, ...]
    size: NetworkSize
    notes: tuple[str, ...] = ()
    epochs: int = 0
    steps: int = 0
    lr: float | None = None
    history: tuple[Mapping[str, float], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class ClimbRecord:
    """Techniques that were applied, each with the rung that it reached."""

    rungs: tuple[Rung, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class QuantizerCost:
    """What one quantizer costs when it alone is on.

    Attributes:
        layer: the operation that it stands at.
        kind: ``weight``, or the operation's ``input`` or ``output``.
        bits: width of its integers.
        sqnr: of the outputs against the float network's, in dB.
        agreement: share in which the task's answer stays, 0 to 1, or None.
        quality: of the network with this quantizer alone.
        own_sqnr: of the values that pass it, in dB, or None where nothing did.
        lowest: smallest value of its grid, one number a range.
        highest: largest value of its grid, one number a range.
        channel_lowest: smallest weight of each output channel; empty of activations.
        channel_highest: largest weight of each output channel.
    """

    layer: str
    kind: str
    bits: int
    sqnr: float
    agreement: float | None
    quality: Measurement
    own_sqnr: float | None
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    channel_lowest: tuple[float, ...] = ()
    channel_highest: tuple[float, ...] = ()


@dataclass(frozen=True)
class ExplainRecord:
    """What every quantizer of a cell costs, the costliest first."""

    quantizers: tuple[QuantizerCost, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class ExportRecord:
    """The files that were written.

    Attributes:
        rungs: the network whose biases are those of the files.
        sizes: bytes: ``float`` and ``packed`` of the parameters, ``file``, ``dlc`` and ``context``
            of what was written.
        dlc_differences: between the DLC and the QDQ ONNX file, a line each.
        takes: what the files take of an image and what they give, a line each.
        seconds: the whole stage took.
    """

    rungs: tuple[Rung, ...]
    sizes: Mapping[str, int]
    dlc_differences: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Speed:
    """How fast a file runs on a target.

    Attributes:
        latency_ms: milliseconds for one image, the median.
        images_per_second: in a batch.
    """

    latency_ms: float
    images_per_second: float


@dataclass(frozen=True)
class FirstLayer:
    """The first layer that a target computes differently, see ``targets.LayerDifference``."""

    name: str
    worst: str
    share: float


@dataclass(frozen=True)
class VerifyRecord:
    """What a target made of the file.

    Attributes:
        target: what results call it.
        comparison: with the simulation.
        notes: what does not run as the target's integer arithmetic, a line each.
        saturation: what saturated sums cost here, or may elsewhere, in words, or None.
        first_layer: that it computes differently, or None.
        file_bytes: of the file that the target loads, or None of older runs.
        speeds: of the quantized file and of the float one, by ``quantized`` and ``float``.
        seconds: the whole stage took.
    """

    target: str
    comparison: Comparison
    notes: tuple[str, ...] = ()
    saturation: str | None = None
    first_layer: FirstLayer | None = None
    file_bytes: int | None = None
    speeds: Mapping[str, Speed] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class TestRecord:
    """Both networks on the official test split."""

    float_network: Measurement
    quantized: Measurement
    seconds: float = 0.0


Record: TypeAlias = (
    TrainRecord | ClimbRecord | ExplainRecord | ExportRecord | VerifyRecord | TestRecord
)


def write_record(folder: Path, record: Record) -> None:
    """Write a stage's record into its output."""
    (folder / _FILE).write_text(json.dumps(records.plain(record)))


def read_record(folder: Path, kind: type[Record]) -> Record:
    """The record of a stage's output.

    Raises:
        StoreError: it cannot be read.
    """
    path = folder / _FILE
    try:
        return records.read(kind, json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{path}: cannot read: {reason}; delete its folder and run again"
        ) from None
