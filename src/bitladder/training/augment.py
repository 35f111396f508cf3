"""Training images changed at random, with the targets that move with them.

Only ``fit`` has them: calibration and evaluation see the images as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from bitladder.data import Batches
from bitladder.data.reader import item_seed, seeded
from bitladder.errors import DataError, TrainingError
from bitladder.structures import as_inputs, count, replaced
from bitladder.tasks import Task
from bitladder.training.batches import Changed
from bitladder.user_code import import_function, one_line

_SHIFT = 8  # the part of a side by which images are shifted at most

Transform = Callable[[Any, Any], tuple[Any, Any]]


class Augmented(Changed):
    """Batches of which every image is changed by itself.

    What is random follows from the seed, the epoch and the batch alone, so that a resumed run
    draws the same, wherever it runs.

    Args:
        batches: of a split, or of a loader of the caller's.
        name: ``standard``, or ``package.module:function``, called without arguments. It returns
            a transform of (image, target), such as one of ``torchvision.transforms.v2``. Images
            are ``tv_tensors.Image``, float32 (C, H, W) as the network sees them; targets are what
            ``Task.movable`` makes of them. For several inputs the image is a tuple of them.
        task: what the targets are.
        seed: of what is random.

    Raises:
        TrainingError: the transform cannot be made.
    """

    def __init__(self, batches: Batches, name: str, task: Task, seed: int) -> None:
        super().__init__(batches)
        self.name, self.task, self.seed = name, task, seed
        self.transform: Transform = _standard if name == "standard" else _imported(name)
        self._passes = 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        # A sampler of the caller's may know no epochs.
        epoch = getattr(self.sampler, "epoch", self._passes)
        self._passes += 1
        for number, (inputs, target) in enumerate(self.batches):
            with seeded(item_seed(self.seed, epoch, number)):
                changed = self._batch(inputs, target)
            yield changed

    def _batch(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        if not isinstance(target, Tensor | list | tuple) or len(target) != count(inputs):
            raise TrainingError(
                f"augment '{self.name}': targets of a batch must be a tensor or a list with one an "
                f"image, not {type(target).__name__}"
            )
        alone = isinstance(inputs, Tensor)
        images, targets = [], []
        for *parts, wanted in zip(*as_inputs(inputs), target, strict=True):
            image, moved = self._image(parts[0] if alone else tuple(parts), wanted)
            images.append(as_inputs(image))
            targets.append(moved)
        stacked = tuple(map(torch.stack, zip(*images, strict=True)))
        return stacked[0] if alone else stacked, self.task.batch(targets)

    def _image(self, image: Any, target: Any) -> tuple[Any, Any]:
        """One image and its target, changed and checked."""
        shape = [tuple(one.shape) for one in as_inputs(image)]
        try:
            moving = self._movable(replaced(target, torch.clone), shape)
            found = self.transform(replaced(image, _as_image), moving)
        except TrainingError:
            raise
        except Exception as error:  # the user's code can raise anything
            raise TrainingError(f"augment '{self.name}': {one_line(error)}") from error
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise TrainingError(
                f"augment '{self.name}': it returned a {type(found).__name__}, not a pair (image, "
                "target)"
            )
        changed, wanted = (replaced(part, _plain) for part in found)
        before, after = _kinds(image), _kinds(changed)
        if before != after:
            raise TrainingError(
                f"augment '{self.name}': an image of {before} became one of {after}; a network "
                "takes one size and type"
            )
        try:
            return changed, self.task.target(wanted, f"augment '{self.name}'")
        except DataError as error:
            raise TrainingError(str(error)) from None

    def _movable(self, target: Any, shapes: list[tuple[int, ...]]) -> Any:
        """A target as what moves with its image.

        Raises:
            TrainingError: images are ``standard`` for which that is not meant, or whose targets
                nobody knows how to move.
        """
        own, size = self.name != "standard", shapes[0][1:]
        if len(shapes) > 1 or len(size) != 2:
            if own:
                return target
            raise TrainingError(
                "augment 'standard' is for networks of one input of images (C, H, W); give "
                "package.module:function"
            )
        try:
            return self.task.movable(target, size)
        except NotImplementedError:
            if own:
                return target
            raise TrainingError(
                f"augment 'standard': task '{self.task.name}' does not say how its targets move "
                "with an image; give it 'movable', or give package.module:function"
            ) from None
        except DataError as error:
            if own:
                return target
            raise TrainingError(f"augment 'standard': {error}") from None


def _standard(image: Tensor, target: Any) -> tuple[Any, Any]:
    """Shift an image by up to an eighth of its sides and mirror it half of the time.

    He 2016 (arXiv 1512.03385, section 4.2), whose 4 of 32 pixels are an eighth. What comes in at a
    side is the image mirrored there; beside boxes it is zero, since a mirrored object has none.
    """
    boxes = isinstance(target, dict) and "boxes" in target
    height, width = image.shape[-2:]
    found: tuple[Any, Any] = _transform(height, width, boxes)(image, target)
    return found


@functools.lru_cache(maxsize=16)
def _transform(height: int, width: int, boxes: bool) -> v2.Compose:
    steps = [
        v2.RandomCrop(
            (height, width),
            padding=[width // _SHIFT, height // _SHIFT],
            padding_mode="constant" if boxes else "reflect",
        ),
        v2.RandomHorizontalFlip(),
    ]
    return v2.Compose([*steps, v2.SanitizeBoundingBoxes()] if boxes else steps)


def _imported(name: str) -> Transform:
    try:
        transform = import_function(name)()
    except Exception as error:  # the user's code can raise anything
        raise TrainingError(
            f"augment '{name}': {one_line(error)}; it is called without arguments and returns a "
            "transform"
        ) from error
    if not callable(transform):
        raise TrainingError(
            f"augment '{name}': it returned a {type(transform).__name__}, not a transform"
        )
    found: Transform = transform
    return found


def _as_image(one: Tensor) -> Tensor:
    own = one.clone()  # which the user's code may write to
    return tv_tensors.Image(own) if own.dim() == 3 else own


def _kinds(image: Any) -> str:
    """The types and sizes of an image, or of one of each input, in words."""
    parts = [image] if isinstance(image, Tensor) or not isinstance(image, tuple | list) else image
    return " and ".join(
        f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}"
        if isinstance(one, Tensor)
        else f"a {type(one).__name__}"
        for one in parts
    )


def _plain(one: Tensor) -> Tensor:
    return one.as_subclass(Tensor)
