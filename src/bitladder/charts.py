"""Every chart of the page, as a function that returns an Altair chart, for notebooks.

Each takes results or the folder of a run, as ``bitladder.run`` wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitladder.errors import StudyError, unknown
from bitladder.pipeline.results import Results
from bitladder.report import charts, detail_charts
from bitladder.report.cells import Network, pairs, read_cells, read_scale
from bitladder.report.figures import Figure
from bitladder.report.quality import Scale
from bitladder.report.run_folder import RunFolder, read_run

if TYPE_CHECKING:
    import altair

Run = Results | str | Path
"""Results, or the folder that they were written to."""


def quality(run: Run, dataset: str | None = None) -> altair.LayerChart:
    """Quality against precision, with intervals.

    Args:
        run: results or their folder.
        dataset: its name; may be left out where there is one.

    Raises:
        StudyError: there is no such data set, or several and none is named.
        StoreError: the folder cannot be read.
    """
    _, networks, scale = _read(run)
    name, here = _of(networks, dataset)
    return _chart([charts.quality_figure(name, here, scale)])


def size(run: Run, dataset: str | None = None) -> altair.LayerChart:
    """Size, packed and of the file, against quality; see ``quality`` for arguments and errors."""
    _, networks, scale = _read(run)
    name, here = _of(networks, dataset)
    return _chart([charts.size_figure(name, here, scale)])


def time(run: Run, dataset: str | None = None) -> altair.Chart:
    """Time spent by kind of stage; see ``quality`` for arguments and errors."""
    _, networks, _ = _read(run)
    name, here = _of(networks, dataset)
    return _chart([charts.time_figure(name, here)])


def targets(run: Run, dataset: str | None = None) -> altair.VConcatChart:
    """Quality on the targets beside the simulation's, then how far they agree; see ``quality``."""
    _, networks, scale = _read(run)
    name, here = _of(networks, dataset)
    return _below(charts.target_figures(name, here, scale), "targets ran the files")


def ladder(run: Run, dataset: str, model: str) -> altair.LayerChart:
    """What each technique gained, of one network.

    Args:
        run: results or their folder.
        dataset: its name.
        model: name of the network.

    Raises:
        StudyError: there is no such network on that data set, or the run kept nothing of it.
        StoreError: the folder cannot be read.
    """
    folder, networks, scale = _read(run)
    found = detail_charts.ladder_figure(_network(networks, dataset, model), folder.rungs, scale)
    return _chart([found] if found else [])


def curves(run: Run, dataset: str, model: str) -> altair.VConcatChart:
    """Quality and loss over training and fine-tuning, of one network; see ``ladder``."""
    folder, networks, scale = _read(run)
    network = _network(networks, dataset, model)
    return _below(detail_charts.curve_figures(network, folder.curves, scale), "curves were kept")


def layers(run: Run, dataset: str, model: str, precision: str) -> altair.Chart:
    """The layers that cost most, of one cell of a study with ``explain``; see ``ladder``."""
    folder, networks, scale = _read(run)
    cells = {cell.precision: cell for cell in _network(networks, dataset, model).cells}
    if precision not in cells:
        raise StudyError(unknown("precision", precision, cells))
    found = detail_charts.layer_figure(cells[precision], folder.layers, scale)
    return _chart([found] if found else [])


def _read(run: Run) -> tuple[RunFolder, list[Network], Scale]:
    folder = read_run(run.output if isinstance(run, Results) else Path(run))
    return folder, pairs(read_cells(folder)), read_scale(folder)


def _of(networks: Sequence[Network], dataset: str | None) -> tuple[str, list[Network]]:
    names = list(dict.fromkeys(network.dataset for network in networks))
    if dataset is None and len(names) > 1:
        raise StudyError(f"several data sets: name one of {', '.join(names)}")
    name = names[0] if dataset is None else dataset
    if name not in names:
        raise StudyError(unknown("data set", name, names))
    return name, [network for network in networks if network.dataset == name]


def _network(networks: Sequence[Network], dataset: str, model: str) -> Network:
    _, here = _of(networks, dataset)
    by_name = {network.model: network for network in here}
    if model not in by_name:
        raise StudyError(unknown("network", model, by_name))
    return by_name[model]


def _chart(figures: Sequence[Figure], what: str = "figures of it were kept") -> Any:
    if not figures:
        raise StudyError(f"no {what} in this run")
    return figures[0].chart.properties(title=figures[0].title)


def _below(figures: Sequence[Figure], what: str) -> Any:
    import altair

    _chart(figures, what)
    return altair.vconcat(*(figure.chart.properties(title=figure.title) for figure in figures))
