"""What the keys need to know of a study's data sets; the store remembers it, so that a run that
has nothing to compute reads no images and loads no torch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bitladder.data_names import sources
from bitladder.errors import DataError
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline.versions import Versions
from bitladder.store import Store, digest

if TYPE_CHECKING:
    from bitladder.data import ImageData
    from bitladder.tasks import Task

_CODE = 3  # raise it when the data room reads, splits or hashes in another way
_TICK = 20_000_000  # nanoseconds: of two changes so close, a file's times may show one


@dataclass(frozen=True)
class Known:
    """What the keys of a study's stages need of a data set.

    Attributes:
        fingerprint: SHA-256 in hex of images, labels, split and preprocessing.
        test: it has an official test split.
    """

    fingerprint: str
    test: bool


def identify(
    options: DatasetOptions,
    loader: LoaderOptions,
    *,
    seed: int,
    task: str,
    store: Store,
    read: Callable[[DatasetOptions], ImageData],
) -> Known:
    """What is remembered of a data set whose files nobody has touched; otherwise it is read.

    Args:
        options: which one, and how it is split.
        loader: where it is looked for.
        seed: seed of the split.
        task: name of what its targets mean.
        store: it remembers, by the files' paths, sizes, times and places on the disk.
        read: reads the data set.

    Raises:
        DataError: it cannot be read.
    """
    from bitladder.data import decode

    found = sources(options.name, loader.root)
    if found is None:
        return _of(read(options))
    stamps = _stamps(found)
    determines = {
        "code": _CODE,
        "versions": Versions().of_images(),
        "decoder": decode.versions(),
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "task": task,
        "files": stamps,
    }
    remembered = store.memory.recall(determines)
    if remembered is not None and remembered.keys() == Known.__annotations__.keys():
        return Known(**remembered)
    began = time.time_ns()
    known = _of(read(options))
    youngest = max((max(stamp[-2:]) for _, stamp in stamps), default=0)
    same = stamps == _stamps(sources(options.name, loader.root))
    if same and youngest < began - _TICK:
        store.memory.remember(determines, asdict(known))
    return known


def load_images(options: DatasetOptions, loader: LoaderOptions, seed: int, task: Task) -> ImageData:
    """Read a data set, with the random numbers that a function of the user's draws seeded.

    Raises:
        DataError: it cannot be read.
    """
    from bitladder import data

    with _seeded(seed):
        return data.load(options, loader, seed=seed, task=task)


def load_known(
    options: DatasetOptions, loader: LoaderOptions, seed: int, task: Task, fingerprint: str
) -> ImageData:
    """Read a data set that is known, and see that it is the same.

    Raises:
        DataError: it cannot be read, or is another one.
    """
    images = load_images(options, loader, seed, task)
    if fingerprint_of(images) != fingerprint:
        raise DataError(
            f"data set '{options.name}': the images are not those with which the run began: they "
            "were changed meanwhile, this worker sees others, or a function draws them anew each "
            "time; run again"
        )
    return images


def fingerprint_of(images: ImageData) -> str:
    """SHA-256 in hex of all that a stage is told of a data set."""
    told = [images.fingerprint, images.classes, list(images.shapes), list(images.notes)]
    return digest([*told, *filter(None, [list(images.class_names)])])


def _of(images: ImageData) -> Known:
    return Known(fingerprint_of(images), images.test is not None)


def _stamps(files: list[Path] | None) -> list[tuple[str, list[int]]]:
    """What changes when a file is written or another one takes its place: never its time alone."""
    found = []
    for path in files or ():
        at = path.stat()
        stamp = [at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns]
        found.append((str(path.absolute()), stamp))
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's random numbers; leave them as they were."""
    import numpy as np
    import torch

    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)
