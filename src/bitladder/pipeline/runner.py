"""Run a study: its stages on Dask (or in this process), its outputs into one folder."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bitladder import tasks
from bitladder.errors import DataError, StoreError, StudyError
from bitladder.files import written_aside
from bitladder.options import DatasetOptions, LoaderOptions, ModelOptions
from bitladder.pipeline import flip_pictures
from bitladder.pipeline.datasets import identify, load_images
from bitladder.pipeline.execute import Execution, Observer, Outcome
from bitladder.pipeline.logs import copy_logs, link_logs
from bitladder.pipeline.loop import execute_all
from bitladder.pipeline.names import labels
from bitladder.pipeline.output_folder import claimed
from bitladder.pipeline.planning import Cell, build, fingerprint_name
from bitladder.pipeline.pretrained import identify_weights
from bitladder.pipeline.results import Results, collect
from bitladder.store import Store, default_root
from bitladder.study import Study, load

if TYPE_CHECKING:
    from bitladder.data import ImageData

_LOOKED_AT = 5000  # images of a split, before each run that computes anything


@dataclass(frozen=True)
class RunOptions:
    """How a study is run; nothing here changes its results.

    Attributes:
        output: folder of the results; by default ``runs/NAME``.
        store: folder of the stages' outputs; by default ``$BITLADDER_STORE`` or ``runs/store``.
        jobs: worker processes of one thread each; by default as many as cores.
        in_process: run the stages one after the other in this process.
        scheduler: address of a Dask scheduler to use in place of a local cluster.
        memory: memory limit of a worker process, such as ``4GB``; by default an equal share.
        resources: Dask resources that training and fine-tuning ask of a worker, such as
            ``{"GPU": 1}``.
    """

    output: Path | str | None = None
    store: Path | str | None = None
    jobs: int | None = None
    in_process: bool = False
    scheduler: str | None = None
    memory: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


def run(
    study: Study | str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    options: RunOptions | None = None,
    observer: Observer | None = None,
) -> Results:
    """Run a study and write its results.

    Args:
        study: a study, the path of its YAML file, or None for the embedded quick study.
        overrides: ``key=value`` changes to the file.
        options: where and how it runs.
        observer: told what happens, as it happens.

    Returns:
        The results of every cell; one that failed carries its reason.

    Raises:
        StudyError, DataError, ModelError: the study cannot begin.
        StoreError: the output folder or the store cannot be written.
    """
    observer = observer or Observer()
    with prepared(study, overrides, options, observer=observer) as job:

        def computed(outcomes: Mapping[str, Outcome]) -> bool:
            return any(outcome.produced for outcome in outcomes.values())

        def save(outcomes: Mapping[str, Outcome]) -> Results:
            results = collect(job.study, job.cells, outcomes, job.output)
            results.write(computed=computed(outcomes))
            return results

        tell_unseen(job.cells, observer)
        link_logs(job.cells, Store(job.execution.store), job.output)
        outcomes = execute_all(
            job.name,
            job.cells,
            job.output,
            job.execution,
            observer=observer,
            save=save,
            within=job.study.within,
        )
        results = save(outcomes)
        if computed(outcomes) or not (job.output / flip_pictures.FILE).exists():
            seed = job.study.every_seed[0]
            read = functools.partial(_read, job.study, seed=seed)
            flip_pictures.write_pictures(results, read)
        _place_artifacts(job.cells, outcomes, job.output)
        copy_logs(job.cells, outcomes, job.output)
        return results


@dataclass(frozen=True)
class Job:
    """A study that is ready to be executed.

    Attributes:
        name: by which the store knows it.
        study: as it was resolved.
        cells: with their stages.
        output: folder of the results, there and writable.
        execution: where and on what its stages are executed.
    """

    name: str
    study: Study
    cells: list[Cell]
    output: Path
    execution: Execution


@contextmanager
def prepared(
    study: Study | str | Path | None,
    overrides: Sequence[str],
    options: RunOptions | None,
    *,
    explain: bool = False,
    observer: Observer | None = None,
) -> Iterator[Job]:
    """Read a study and its data sets; its folder of results is this run's while the block lasts.

    Args:
        study: a study, the path of its YAML file, or None for the embedded quick study.
        overrides: ``key=value`` changes to the file.
        options: where and how it runs.
        explain: end each cell with its stage ``explain``.
        observer: told what is amiss with the data of a study that is to run.

    Raises:
        StudyError, DataError, ModelError: the study cannot begin.
        StoreError: the output folder or the store cannot be written, or the folder is not ours.
    """
    options = options or RunOptions()
    if not isinstance(study, Study):
        study = load(study, overrides)
    elif overrides:
        raise StudyError("overrides change a study file: give its path, not a Study")
    name = f"{study.name}-explain" if explain else study.name
    output = Path(options.output or Path("runs") / name)
    root = Path(options.store or default_root())
    with claimed(output, root, name):
        store = Store(root)
        execution = Execution(
            store=store.root.resolve(),
            loader=_absolute(study.data),
            jobs=options.jobs,
            in_process=options.in_process,
            scheduler=options.scheduler,
            memory=options.memory,
            resources=options.resources,
        )
        yield Job(name, study, _cells(study, store, explain, observer), output, execution)


def tell_unseen(cells: Sequence[Cell], observer: Observer) -> None:
    """Say of which code a change cannot be seen, and which targets are not there, once each."""
    for line in dict.fromkeys(line for cell in cells for line in cell.remarks):
        observer.message(line)


def _cells(study: Study, store: Store, explain: bool, observer: Observer | None) -> list[Cell]:
    """Know every data set by its fingerprint, and see that every network that is to run fits it.

    A network whose stages are all in the store has run, so it fits.
    """

    read = functools.cache(functools.partial(_read, study))
    known = {
        (label, seed): identify(
            options,
            study.data,
            seed=seed,
            task=study.task.name,
            store=store,
            read=functools.partial(read, seed=seed),
        )
        for label, options in zip(labels(study.datasets), study.datasets, strict=True)
        for seed in study.every_seed
    }
    starts = {
        label: start
        for label, options in zip(labels(study.models), study.models, strict=True)
        if (start := identify_weights(options, store)) is not None
    }
    cells = build(
        study,
        {fingerprint_name(study, *at): one.fingerprint for at, one in known.items()},
        [label for (label, _), one in known.items() if one.test],
        explain=explain,
        weights=starts,
    )
    waiting = [cell for cell in cells if not all(map(store.has, cell.keys))]
    for dataset in dict.fromkeys(cell.dataset for cell in waiting):
        if observer is not None:
            _tell_findings(read(dataset, seed=study.every_seed[0]), observer)
    for dataset, model in dict.fromkeys((cell.dataset, cell.model) for cell in waiting):
        _see_that_it_fits(model, read(dataset, seed=study.every_seed[0]), study)
    return cells


def _tell_findings(images: ImageData, observer: Observer) -> None:
    from bitladder.data.findings import examine

    with suppress(DataError):  # the stage that reads the image tells it
        for finding in examine(images, _LOOKED_AT):
            observer.message(f"finding: {finding}")


def _read(study: Study, options: DatasetOptions, *, seed: int) -> ImageData:
    return load_images(options, study.data, seed, tasks.find(study.task.name))


def _see_that_it_fits(options: ModelOptions, images: ImageData, study: Study) -> None:
    from bitladder import models

    network = models.build(
        options,
        classes=images.classes,
        shapes=images.shapes,
        seed=study.every_seed[0],
        task=tasks.find(study.task.name),
    )
    if options.weights is not None:
        models.load_weights(
            network,
            options.weights,
            key=options.weights_key,
            new_head=study.train.start == "weights",
        )


def _absolute(loader: LoaderOptions) -> LoaderOptions:
    root = loader.root.resolve() if loader.root else None
    return loader.model_copy(update={"root": root})


def _place_artifacts(cells: Sequence[Cell], outcomes: Mapping[str, Outcome], output: Path) -> None:
    """Copy what a person takes away beside the results; the store keeps its own."""
    for cell in cells:
        folder = output / "cells" / cell.name
        for stage in cell.stages:
            found = outcomes[stage.key].folder if stage.key in outcomes else None
            for name in stage.kind.files:
                if found is not None and (found / name).exists():
                    _copy(found / name, folder / name)
                else:  # of an earlier run with other options
                    _remove(folder / name)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot remove: {error.strerror}") from error


def _copy(source: Path, destination: Path) -> None:
    """Copy a file whole or not at all, unless it is there already."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists() and _same(source, destination):
            return
        with written_aside(destination) as aside:
            shutil.copy2(source, aside)
    except OSError as error:
        raise StoreError(f"{destination}: cannot write: {error.strerror}") from error


def _same(source: Path, destination: Path) -> bool:
    first, second = source.stat(), destination.stat()
    return (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)
