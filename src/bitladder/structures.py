"""What networks take and return, whatever their forward looks like, as named tensors.

A network takes one or more tensors. It returns one tensor, or tensors in tuples, lists,
dictionaries and dataclasses. Everything below a task sees inputs as a tuple and outputs as a
dictionary in the order in which the network returns them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = tuple[Tensor, ...]
"""One tensor an input of the network, the first dimension of each being the batch."""
Outputs: TypeAlias = dict[str, Tensor]
"""The tensors that a network returned, by name, in their order."""

_BATCH_VALUES = 2**22  # of inputs in a batch: 27 images of 224x224, 3 of 640x640
OUTPUT = "output"
"""Name of the only output of a network that gives it none."""
NOTES = "bitladder_notes"
"""Key of a traced network's meta: what a person should know of how it was made, a line each."""


def named(returned: Any, leaf: type[Any] = Tensor) -> dict[str, Any]:
    """The tensors in whatever a network returned, by name and in order.

    A tensor alone is ``output``. The parts of a tuple or list are ``output_0``, ``output_1``; those
    of a dictionary or dataclass have their keys. Deeper parts are joined by ``_``. What is no
    tensor, such as None, is left out.

    Args:
        returned: a tensor, or tuples, lists, dictionaries and dataclasses of them.
        leaf: the type of what is looked for, such as the node that stands for a tensor.
    """
    found: dict[str, Any] = {}
    for path, value in _leaves(returned, (), leaf):
        wanted = "_".join(path) if path and not path[0].isdigit() else "_".join([OUTPUT, *path])
        name, count = wanted, 1
        while name in found:
            count += 1
            name = f"{wanted}_{count}"
        found[name] = value
    return found


def input_count(forward: Callable[..., Any]) -> int | None:
    """How many inputs a network's forward wants, or None where it takes any number.

    Arguments that have a default are none.
    """
    kinds = {one.kind for one in inspect.signature(forward).parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return max(1, len(input_names(forward)))


def replaced(returned: Any, change: Callable[[Tensor], Any]) -> Any:
    """What a network returned, with another value for each of its tensors, in its own structure."""
    if isinstance(returned, Tensor):
        return change(returned)
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return type(returned)(*(replaced(part, change) for part in returned))
    if isinstance(returned, list | tuple):
        return type(returned)([replaced(part, change) for part in returned])
    if isinstance(returned, Mapping):
        parts = {key: replaced(part, change) for key, part in returned.items()}
        return parts if isinstance(returned, dict) else type(returned)(parts)  # type: ignore[call-arg]
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        return dataclasses.replace(
            returned, **{key: replaced(part, change) for key, part in _parts(returned)}
        )
    return returned


def input_names(forward: Callable[..., Any], count: int | None = None) -> tuple[str, ...]:
    """What a network calls its inputs: the parameters of its forward that have no default.

    Those of ``*inputs`` are ``input_0``, ``input_1``.

    Args:
        forward: of the network.
        count: number of inputs; parameters that have a default are named as far as they are given.
            None where it is not known: then ``*inputs`` counts as one.
    """
    kinds = inspect.Parameter
    names: list[str] = []
    for one in inspect.signature(forward).parameters.values():
        if one.kind is kinds.VAR_POSITIONAL:
            left = 1 - bool(names) if count is None else count - len(names)
            return (*names, *(f"input_{place}" for place in range(left)))
        by_place = one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        wanted = one.default is kinds.empty if count is None else len(names) < count
        if by_place and (wanted or not names):
            names.append(one.name)
    return tuple(names)


def as_inputs(given: Tensor | Sequence[Tensor]) -> Inputs:
    """Inputs of a network: a tensor alone is its only one."""
    return (given,) if isinstance(given, Tensor) else tuple(given)


def count(inputs: Tensor | Sequence[Tensor]) -> int:
    """How many images or signals there are."""
    return len(as_inputs(inputs)[0])


def first(inputs: Tensor | Sequence[Tensor], wanted: int) -> Inputs:
    """The first images or signals of each input."""
    return tuple(one[:wanted] for one in as_inputs(inputs))


def split(inputs: Tensor | Sequence[Tensor], size: int) -> Iterator[Inputs]:
    """The inputs in batches of at most ``size``."""
    return zip(*(torch.split(one, size) for one in as_inputs(inputs)), strict=True)


def fitting(inputs: Tensor | Sequence[Tensor], most: int) -> int:
    """How many items of the inputs run at a time, so that large ones take no more memory.

    Args:
        inputs: of which the sizes of one item count.
        most: where items are small.
    """
    values = sum(one[:1].numel() for one in as_inputs(inputs))
    return max(1, min(most, _BATCH_VALUES // max(values, 1)))


def joined(batches: Sequence[Sequence[Tensor]]) -> Inputs:
    """Batches of inputs as one."""
    return tuple(torch.cat(list(parts)) for parts in zip(*batches, strict=True))


def moved(inputs: Tensor | Sequence[Tensor], device: torch.device) -> Inputs:
    """The inputs on a device."""
    return tuple(one.to(device) for one in as_inputs(inputs))


def channels_last(inputs: Tensor | Sequence[Tensor]) -> Inputs:
    """The inputs in the memory format in which convolutions of images are fastest."""
    return tuple(
        one.contiguous(memory_format=torch.channels_last) if one.dim() == 4 else one
        for one in as_inputs(inputs)
    )


def shapes(inputs: Tensor | Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    """The shape of one image or signal of each input, without the batch."""
    return tuple(tuple(one.shape[1:]) for one in as_inputs(inputs))


def dtypes(inputs: Tensor | Sequence[Tensor]) -> tuple[torch.dtype, ...]:
    """The type of each input's numbers."""
    return tuple(one.dtype for one in as_inputs(inputs))


def example(
    count: int,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[torch.dtype] | None = None,
    seed: int = 0,
) -> Inputs:
    """Random inputs: floats from 0 to 1, integers and truth values 0 or 1.

    Args:
        count: how many images or signals.
        shapes: of one of each input.
        dtypes: of each input; by default float32.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape, dtype in zip(shapes, dtypes or (torch.float32,) * len(shapes), strict=True):
        if dtype.is_floating_point:
            made.append(torch.rand(count, *shape, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, (count, *shape), generator=generator).to(dtype))
    return tuple(made)


def _leaves(
    value: Any, path: tuple[str, ...], leaf: type[Any]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, leaf):
        yield path, value
        return
    for key, part in _parts(value):
        yield from _leaves(part, (*path, key), leaf)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    fields: Callable[[Any], Any] = dataclasses.fields
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield str(place), part
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key), part
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield field.name, getattr(value, field.name)
