"""TensorBoard logs of a run, a folder a cell; that of a running stage links to where it writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bitladder.errors import StoreError
from bitladder.pipeline.execute import Outcome
from bitladder.pipeline.planning import Cell, Stage
from bitladder.store import Store

NAME = "tensorboard"


def link_logs(cells: Sequence[Cell], store: Store, output: Path) -> None:
    """Show the logs of stages that are still to run, from their first step on.

    Where the system has no symbolic links, they appear when the run ends.
    """
    for stage, folder in _folders(cells, output):
        if store.get(stage.key) is None:
            with suppress(OSError):
                _clear(folder)
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.symlink_to(store.scratch_path(stage.key) / NAME, target_is_directory=True)


def copy_logs(cells: Sequence[Cell], outcomes: Mapping[str, Outcome], output: Path) -> None:
    """Put the logs of complete stages in the place of the links.

    Raises:
        StoreError: the folder cannot be written.
    """
    for stage, folder in _folders(cells, output):
        found = outcomes[stage.key].folder if stage.key in outcomes else None
        if found is None or not (found / NAME).is_dir():
            continue
        names = {path.name for path in (found / NAME).iterdir()}
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if folder.is_symlink() or names != there:
            try:
                _clear(folder)
                shutil.copytree(found / NAME, folder)
            except OSError as error:
                raise StoreError(f"{folder}: cannot write: {error.strerror or error}") from error


def _folders(cells: Sequence[Cell], output: Path) -> Iterator[tuple[Stage, Path]]:
    for cell in cells:
        for stage in cell.stages:
            if stage.kind.trains:
                yield stage, output / NAME / cell.name / stage.kind.name


def _clear(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
