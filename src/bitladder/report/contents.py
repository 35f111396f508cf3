"""What stands in a report: the cells of a run folder and their figures, by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bitladder.answer import Place, places
from bitladder.report import charts, detail_charts
from bitladder.report.cells import Network, ReportedCell, pairs, read_cells, read_scale, slider
from bitladder.report.figures import Figure, tell_apart
from bitladder.report.quality import Scale, Slider
from bitladder.report.run_folder import RunFolder, read_run


@dataclass
class Contents:
    """A run and its figures.

    Attributes:
        run: the folder as it was read.
        cells: in the order of results.csv.
        pairs: the cells by data set and network.
        places: each network on each target, in the order of the pairs.
        scale: the quality of the run.
        slider: the losses that a reader may allow.
        quality: quality against precision, a figure a data set.
        size: size against quality.
        targets: quality and agreement of the targets.
        time: time spent.
        details: ladder and curves of each pair, in its order.
        layers: the most sensitive layers by the cell's index.
    """

    run: RunFolder
    cells: list[ReportedCell]
    pairs: list[Network]
    places: list[Place]
    scale: Scale
    slider: Slider
    quality: list[Figure] = field(default_factory=list)
    size: list[Figure] = field(default_factory=list)
    targets: list[Figure] = field(default_factory=list)
    time: list[Figure] = field(default_factory=list)
    details: list[list[Figure]] = field(default_factory=list)
    layers: dict[int, list[Figure]] = field(default_factory=dict)

    @property
    def figures(self) -> Iterator[Figure]:
        """Every figure."""
        places: Sequence[Sequence[Figure]] = [self.quality, self.size, self.targets, self.time]
        for place in (*places, *self.details, *self.layers.values()):
            yield from place


def read_contents(folder: Path) -> Contents:
    """Read the folder of a run and draw its figures.

    Raises:
        StoreError: it is not a run's folder, or one of its files is damaged.
    """
    run = read_run(folder)
    cells = read_cells(run)
    scale = read_scale(run)
    asked = places(run.written)
    contents = Contents(run, cells, pairs(cells, asked), asked, scale, slider(cells, scale))
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        here = [pair for pair in contents.pairs if pair.dataset == dataset]
        if any(pair.trained for pair in here):
            contents.quality.append(charts.quality_figure(dataset, here, scale))
            contents.time.append(charts.time_figure(dataset, here))
        if any("packed" in cell.sizes for pair in here for cell in pair.cells):
            contents.size.append(charts.size_figure(dataset, here, scale))
        contents.targets += charts.target_figures(dataset, here, scale)
    for pair in contents.pairs:
        ladder = detail_charts.ladder_figure(pair, run.rungs, scale)
        curves = detail_charts.curve_figures(pair, run.curves, scale)
        contents.details.append([*([ladder] if ladder else []), *curves])
        for cell in pair.cells:
            worst = detail_charts.layer_figure(cell, run.layers, scale)
            contents.layers[cell.index] = [worst] if worst else []
    tell_apart(contents.figures)
    return contents
