"""What the keys need to know of a study's data sets; the store remembers it, so that a run that
has nothing to compute reads no images and loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bitladder.data_names import sources
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.pipeline.graph import versions
from bitladder.store import Store, stamp

if TYPE_CHECKING:
    from bitladder.data import ImageData

_CODE = 2  # raise it when the data room reads, splits or hashes in another way


@dataclass(frozen=True)
class Known:
    """What the keys of a study's stages need of a data set.

    Attributes:
        fingerprint: SHA-256 in hex of images, labels, split and preprocessing.
        test: it has an official test split.
    """

    fingerprint: str
    test: bool


def know(
    options: DatasetOptions,
    loader: LoaderOptions,
    *,
    seed: int,
    store: Store,
    read: Callable[[DatasetOptions], ImageData],
) -> Known:
    """What is remembered of a data set whose files nobody has touched; otherwise it is read.

    Args:
        options: which one, and how it is split.
        loader: where it is looked for.
        seed: seed of the split.
        store: it remembers, by the files' paths, sizes and times.
        read: reads the data set.

    Raises:
        DataError: it cannot be read.
    """
    from bitladder.data import decode

    found = sources(options.name, loader.root)
    if found is None:
        return _of(read(options))
    determines = {
        "code": _CODE,
        "versions": versions(),
        "decoder": decode.versions(),
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "files": [(str(path.absolute()), stamp(path)) for path in found],
    }
    remembered = store.memory.recall(determines)
    if remembered is not None:
        return Known(**remembered)
    known = _of(read(options))
    store.memory.remember(determines, asdict(known))
    return known


def _of(images: ImageData) -> Known:
    return Known(images.fingerprint, images.test is not None)
