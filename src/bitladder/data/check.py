"""What inputs must be, in one line each where they are not; for data of any origin.

What stands beside them is the task's to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitladder.errors import DataError
from bitladder.structures import Inputs, count, shapes
from bitladder.tasks import Task
from bitladder.tasks.targets import kind

_SMALLEST = 8  # pixels: a smaller last but one dimension is taken for channels
_CHANNELS_LAST = (1, 3, 4)

_WHOLE = (torch.int64, torch.int32, torch.bool)  # tokens and masks


def item(value: Any, where: str, task: Task) -> tuple[Tensor | Inputs, Any]:
    """An item of a data set: its float32 image, or a tuple of one tensor an input, and its target.

    Raises:
        DataError: it is something else.
    """
    image, target = _pair(value, where, "(image, target)")
    if isinstance(image, list | tuple):
        found: Tensor | Inputs = tuple(one_image(one, where) for one in image)
    else:
        found = one_image(image, where)
    return found, task.target(target, where)


def one_image(value: Any, where: str) -> Tensor:
    """A float32 image (C, H, W), signal (C, L) or other tensor without a batch, on the CPU.

    Raises:
        DataError: it is something else.
    """
    image = _tensor(value, where, "an image", "(C, H, W)").cpu()
    if not image.dim():
        raise DataError(f"{where}: an image must be a float tensor (C, H, W), not a number")
    _refuse_channels_last(image, where)
    return _finite(image.float(), where)


def inputs(value: Any, where: str, *, channels_last: bool = False) -> Tensor | Inputs:
    """A batch of one input, or a tuple of one an input, on the device where it is.

    Images are float32 (N, C, H, W), signals (N, C, L); integers, such as numbers of words, stay
    integers. Where it is known that a network may take its channels last, images (N, H, W, C) pass.

    Raises:
        DataError: they are something else, or inputs have other numbers of items.
    """
    if not isinstance(value, list | tuple):
        return images(value, where, channels_last=channels_last)
    found = tuple(images(one, where, channels_last=channels_last) for one in value)
    if not found or len({len(one) for one in found}) > 1:
        sizes = ", ".join(str(len(one)) for one in found) or "none"
        raise DataError(f"{where}: inputs of {sizes} items; each input has one an image")
    return found


def images(value: Any, where: str, *, channels_last: bool = False) -> Tensor:
    """Float32 images (N, C, H, W) or other tensors of a batch, on the device where they are.

    Raises:
        DataError: they are something else.
    """
    if isinstance(value, Tensor) and value.dtype in _WHOLE and value.dim():
        return value.detach()
    found = _tensor(value, where, "images", "(N, C, H, W)")
    if found.dim() < 2:
        raise DataError(f"{where}: images must be (N, C, H, W), not of shape {_shape(found)}")
    if not len(found):
        return found.float()
    if not channels_last:
        _refuse_channels_last(found[0], where)
    return _finite(found.float(), where)


def batches(
    values: Iterable[Any], where: str, task: Task, classes: int | None = None
) -> Iterator[tuple[Tensor | Inputs, Any]]:
    """Batches of the user's with their targets, each checked as it comes.

    Args:
        values: batches (images, target).
        where: what they are for.
        task: checks the targets.
        classes: of the network, or None where it is not known.

    Raises:
        DataError: one is something else, or of another size than the first, or there are none.
    """
    first = None
    for number, value in enumerate(each(values, where)):
        here = f"{where}, batch {number}"
        pair = _pair(value, here, "(images, labels)")
        found = inputs(pair[0], here)
        first = same_sizes(shapes(found), first, here)
        yield found, task.batched(pair[1], count(found), here, classes)
    if first is None:
        raise DataError(f"{where}: there are no images; give at least one batch")


def each(values: Any, where: str) -> Iterator[Any]:
    """Iterate over what may not be iterable, or raise when it is."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise DataError(f"{where}: give batches, such as a DataLoader, not {kind(values)}")
    try:
        yield from values
    except DataError:
        raise
    except GeneratorExit:
        raise
    except Exception as error:  # the user's code can raise anything
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[-1].strip()}" if text else type(error).__name__
        hint = ""
        if "stack expects each tensor to be equal size" in str(error):
            hint = "; images must have one size"
        raise DataError(f"{where}: {reason}{hint}") from error


def same_sizes(
    found: tuple[tuple[int, ...], ...], first: tuple[tuple[int, ...], ...] | None, where: str
) -> tuple[tuple[int, ...], ...]:
    """The sizes of the inputs of the first image, which all others must have."""
    if first is not None and found != first:
        sizes = [" and ".join("x".join(map(str, one)) for one in sizes) for sizes in (found, first)]
        raise DataError(
            f"{where}: an image of {sizes[0]} where the first is {sizes[1]}; all must have one "
            "size and number of channels"
        )
    return found


def _pair(value: Any, where: str, wanted: str) -> tuple[Any, Any]:
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], value[1]
    given = kind(value)
    if isinstance(value, list | tuple):
        given = f"{len(value)} values"
    elif isinstance(value, Mapping):
        given = f"a mapping with {', '.join(map(str, list(value)[:5]))}"
    raise DataError(f"{where}: must be {wanted}, not {given}")


def _tensor(value: Any, where: str, what: str, shape: str) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        with suppress(TypeError, ValueError):  # of a type that torch lacks: said below
            native = value.astype(value.dtype.newbyteorder("="), copy=False)
            value = torch.from_numpy(np.ascontiguousarray(native))
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        hint = ""
        if hasattr(value, "getbands"):  # of Pillow
            hint = "; add torchvision.transforms.ToTensor()"
        raise DataError(f"{where}: {what} must be a float tensor {shape}, not {kind(value)}{hint}")
    if not value.is_floating_point():
        hint = "; give image.float() / 255" if value.dtype == torch.uint8 else "; give floats"
        raise DataError(
            f"{where}: {what} must be a float tensor {shape}, not {_dtype(value)}{hint}"
        )
    return value.detach()


def _refuse_channels_last(image: Tensor, where: str) -> None:
    if min(image.shape) < 1:
        raise DataError(f"{where}: an image of no pixels, {_shape(image)}")
    if image.dim() != 3:
        return
    if image.shape[2] in _CHANNELS_LAST and min(image.shape[:2]) >= _SMALLEST:
        raise DataError(
            f"{where}: an image of {_shape(image)} has its channels last; they come first, "
            "(C, H, W): give image.permute(2, 0, 1)"
        )


def _finite(found: Tensor, where: str) -> Tensor:
    # One sum tells of nearly all images; only one that is not finite is looked through.
    if not torch.isfinite(found.sum()) and not torch.isfinite(found).all():
        raise DataError(f"{where}: pixels that are NaN or infinite")
    return found


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
