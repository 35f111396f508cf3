"""Small pictures of the images that flip, kept beside the tables for the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

from bitladder.errors import DataError
from bitladder.files import write_whole
from bitladder.pipeline.flips import flip_rows
from bitladder.pipeline.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitladder.data import ImageData
    from bitladder.options import DatasetOptions

FILE = "flips.json"
SHOWN = 12  # images of a cell
_SIDE = 48  # pixels
_BUDGET = 400_000  # characters of all pictures: the page holds them


def write_pictures(results: Results, read: Callable[[DatasetOptions], ImageData]) -> None:
    """Write ``flips.json``: by data set and number, the JPEG file of an image in base64.

    The first flips of every cell come first; where all would be too much, the last are left out.

    Args:
        results: of a run; of several seeds the first alone has pictures.
        read: reads a data set.

    Raises:
        StoreError: the folder cannot be written.
    """
    found: dict[str, dict[str, str]] = {}
    left = _BUDGET
    for dataset, numbers in _wanted(results).items():
        options = next(
            one.cell.dataset for one in results.cells if one.cell.dataset_label == dataset
        )
        for number, picture in _pictures(options, numbers, read).items():
            text = base64.b64encode(picture).decode()
            left -= len(text)
            if left > 0:
                found.setdefault(dataset, {})[str(number)] = text
    write_whole(results.output / FILE, json.dumps(found))


def _wanted(results: Results) -> Mapping[str, list[int]]:
    """The numbers of each data set's images, those first that stand first in their cells."""
    cells: dict[str, list[list[int]]] = {}
    seed = results.study.every_seed[0]  # each splits the data set in its own way
    for cell in (one for one in results.cells if one.cell.seed == seed):
        numbers = [row["image"] for row in islice(flip_rows(cell), SHOWN)]
        cells.setdefault(cell.cell.dataset_label, []).append(numbers)
    return {
        dataset: list(dict.fromkeys(_in_turn(lists)))
        for dataset, lists in cells.items()
        if any(lists)
    }


def _in_turn(lists: list[list[int]]) -> Iterator[int]:
    for rank in zip_longest(*lists):
        yield from (number for number in rank if number is not None)


def _pictures(
    options: DatasetOptions, numbers: list[int], read: Callable[[DatasetOptions], ImageData]
) -> dict[int, bytes]:
    """In the order of ``numbers``; none where the data set is not at hand any more."""
    from bitladder.data.pictures import pictures

    try:
        found = pictures(read(options).validation, numbers, _SIDE)
    except DataError:
        return {}
    return {number: found[number] for number in numbers if number in found}
