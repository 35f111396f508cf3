"""The images that a file is verified on: those that it says it was validated on, where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitladder import data, deploy, targets, tasks
from bitladder.cli.sizes import height_and_width
from bitladder.errors import DataError, TargetError
from bitladder.options import DatasetOptions, LoaderOptions, Normalization, normalization_of
from bitladder.outside import read_onnx

_SEED = 1  # of the split of images that no study has split
_LIMITS = 8, 1024  # pixels of a side


@dataclass(frozen=True)
class ValidationImages:
    """What a file is run on.

    Attributes:
        split: the images.
        task: what the file's outputs mean.
        notes: what a reader must know of them, a line each.
    """

    split: data.Split
    task: str
    notes: tuple[str, ...]


def validation_images(
    artifact: Path,
    name: str,
    size: str | None,
    normalize: str | None,
    task: str | None,
    root: Path | None,
) -> ValidationImages:
    """Read the validation images of a data set as a file takes them.

    A file of ours says how its study read, split and validated its images; of the same images it
    gets the same split. Other images, and those of other files, are split by a seed.

    Args:
        artifact: an ONNX file.
        name: a data set's name or a folder.
        size: height and width, such as ``480x640``; by default the file's own.
        normalize: what is done to the pixels before; None is what the file asks for.
        task: what its outputs mean; by default what it says, or classification.
        root: the folder that is searched first for data sets.

    Raises:
        DataError: the images cannot be read, or an option is not valid.
        TargetError: the file cannot be read.
    """
    told = deploy.read_description(read_onnx(artifact, external=False, refusal=TargetError))
    meaning = task or (told.task if told is not None else None) or "classification"
    inside = told is not None and told.normalization is not None
    if normalize is not None and inside:
        raise DataError(f"--normalize: {artifact} normalizes its pixels itself; leave it out")
    loader, kind = LoaderOptions(root=root), tasks.find(meaning)
    if told is not None and told.dataset is not None and size is normalize is None:
        options = DatasetOptions.model_validate({**told.dataset, "name": name})
        try:
            own = data.load(options, loader, seed=told.seed or _SEED, task=kind)
        except DataError:  # other images, of which there may be fewer
            own = None
        if own is not None and own.fingerprint == told.fingerprint:
            return ValidationImages(own.with_pixels().validation, meaning, ())
    wanted = height_and_width(size)
    if wanted is not None and not all(_LIMITS[0] <= side <= _LIMITS[1] for side in wanted):
        raise DataError(f"--size {size}: sides have {_LIMITS[0]} to {_LIMITS[1]} pixels")
    wanted = wanted or own_size(artifact)
    options = DatasetOptions(name=name, size=wanted, normalize=_normalization(normalize) or "none")
    found = data.load(options, loader, seed=_SEED, task=kind)
    other = told is not None and told.dataset is not None
    notes = ("these are not the images that the file was validated on",) if other else ()
    return ValidationImages(found.validation, meaning, notes)


def own_size(artifact: Path) -> tuple[int, int] | None:
    """Height and width of a file's image, where it says them and a data set can have them."""
    for given in targets.graph_inputs(artifact):
        sides = given.shape[2:] if len(given.shape) == 4 else ()
        low, high = _LIMITS
        found = [one for one in sides if isinstance(one, int) and low <= one <= high]
        if len(found) == len(sides) == 2:
            return found[0], found[1]
    return None


def _normalization(text: str | None) -> Normalization | None:
    """A normalization as a person types it.

    Raises:
        DataError: it is none.
    """
    if text in (None, "none", "imagenet"):
        return normalization_of(text)
    assert text is not None
    try:
        mean, std = ([float(one) for one in part.split(",")] for part in text.split("/"))
        return Normalization(mean=tuple(mean), std=tuple(std))
    except ValueError:
        raise DataError(
            f"--normalize {text}: give imagenet, or means/deviations such as 0.5/0.5 or "
            "0.485,0.456,0.406/0.229,0.224,0.225"
        ) from None
