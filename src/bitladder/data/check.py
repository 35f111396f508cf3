"""What images and labels must be, in one line each where they are not; for data of any origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitladder.errors import DataError

_SMALLEST = 8  # pixels: a smaller last but one dimension is taken for channels
_CHANNELS_LAST = (1, 3, 4)


def item(value: Any, where: str) -> tuple[Tensor, int]:
    """An item of a data set: float32 image (C, H, W) and its class.

    Raises:
        DataError: it is something else.
    """
    image, label = _pair(value, where, "(image, label)")
    return one_image(image, where), one_label(label, where)


def one_image(value: Any, where: str) -> Tensor:
    """A float32 image (C, H, W) on the CPU.

    Raises:
        DataError: it is something else.
    """
    image = _tensor(value, where, "an image", "(C, H, W)").cpu()
    if image.dim() != 3:
        raise DataError(
            f"{where}: an image must be a float tensor (C, H, W), not of shape {_shape(image)}"
        )
    _refuse_channels_last(image, where)
    return _finite(image.float(), where)


def one_label(value: Any, where: str) -> int:
    """A class, counted from 0.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        label = _number(value, where)
        if label.dim():
            hint = "; of one-hot labels take label.argmax()" if label.numel() > 1 else ""
            raise DataError(f"{where}: a label must be an int, not of shape {_shape(label)}{hint}")
        value = label.item()
    if isinstance(value, float | complex):
        raise DataError(f"{where}: a label must be an int, not {value}; give int(label)")
    if not isinstance(value, int):
        raise DataError(
            f"{where}: a label must be an int, not {_kind(value)}; number the classes from 0"
        )
    if value < 0:
        raise DataError(f"{where}: the label {value} is negative; number the classes from 0")
    return int(value)


def images(value: Any, where: str) -> Tensor:
    """Float32 images (N, C, H, W), on the device where they are.

    Raises:
        DataError: they are something else.
    """
    found = _tensor(value, where, "images", "(N, C, H, W)")
    if found.dim() != 4:
        raise DataError(f"{where}: images must be (N, C, H, W), not of shape {_shape(found)}")
    if not len(found):
        return found.float()
    _refuse_channels_last(found[0], where)
    return _finite(found.float(), where)


def labels(value: Any, where: str, count: int, classes: int | None = None) -> Tensor:
    """Int64 labels (N,).

    Args:
        value: what is to be checked.
        where: whose labels these are.
        count: number of images.
        classes: of the network, or None where it is not known.

    Raises:
        DataError: they are something else, or no classes of the network.
    """
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: labels are strings; number the classes from 0")
    try:
        found = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{where}: labels must be integers (N,), not {_kind(value)}") from None
    if found.shape != (count,):
        hint = ""
        if found.dim() == 2 and len(found) == count:
            hint = "; take labels.argmax(1)" if found.shape[1] > 1 else "; take labels[:, 0]"
        raise DataError(
            f"{where}: labels of {count} images must be of shape ({count},), not "
            f"{_shape(found)}{hint}"
        )
    if found.is_floating_point() or found.is_complex():
        raise DataError(
            f"{where}: labels must be integers, not {_dtype(found)}; give labels.long()"
        )
    found = found.long()
    if count and int(found.min()) < 0:
        raise DataError(f"{where}: the label {int(found.min())} is negative; count from 0")
    if count and classes is not None and int(found.max()) >= classes:
        raise DataError(
            f"{where}: the label {int(found.max())} is none of the network's {classes} classes, "
            "which count from 0"
        )
    return found


def batches(
    values: Iterable[Any], where: str, classes: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labelled batches of the user's, each checked as it comes.

    Args:
        values: batches (images, labels).
        where: what they are for.
        classes: of the network, or None where it is not known.

    Raises:
        DataError: one is something else, or of another size than the first, or there are none.
    """
    first = None
    for number, value in enumerate(each(values, where)):
        here = f"{where}, batch {number}"
        pair = _pair(value, here, "(images, labels)")
        found = images(pair[0], here)
        first = same_size(found.shape[1:], first, here)
        yield found, labels(pair[1], here, len(found), classes)
    if first is None:
        raise DataError(f"{where}: there are no images; give at least one batch")


def each(values: Any, where: str) -> Iterator[Any]:
    """Iterate over what may not be iterable, or raise when it is."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise DataError(f"{where}: give batches, such as a DataLoader, not {_kind(values)}")
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


def same_size(shape: Iterable[int], first: tuple[int, ...] | None, where: str) -> tuple[int, ...]:
    """The size of the first image, which all others must have."""
    found = tuple(shape)
    if first is not None and found != first:
        raise DataError(
            f"{where}: an image of {_sides(found)} where the first is {_sides(first)}; all must "
            "have one size and number of channels"
        )
    return found


def _pair(value: Any, where: str, wanted: str) -> tuple[Any, Any]:
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], value[1]
    given = _kind(value)
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
        raise DataError(f"{where}: {what} must be a float tensor {shape}, not {_kind(value)}{hint}")
    if not value.is_floating_point():
        hint = "; give image.float() / 255" if value.dtype == torch.uint8 else "; give floats"
        raise DataError(
            f"{where}: {what} must be a float tensor {shape}, not {_dtype(value)}{hint}"
        )
    return value.detach()


def _refuse_channels_last(image: Tensor, where: str) -> None:
    if min(image.shape) < 1:
        raise DataError(f"{where}: an image of no pixels, {_shape(image)}")
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


def _number(value: Any, where: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{where}: a label must be an int, not {_kind(value)}; number the classes from 0"
        ) from None


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the string '{value[:40]}'"
    return "None" if value is None else f"a {type(value).__name__}"
