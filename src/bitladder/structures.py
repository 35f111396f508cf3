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

OUTPUT = "output"
"""Name of the only output of a network that gives it none."""


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
    kinds = inspect.Parameter
    wanted = 0
    for one in inspect.signature(forward).parameters.values():
        if one.kind is kinds.VAR_POSITIONAL:
            return None
        if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            wanted += one.default is kinds.empty
    return max(1, wanted)


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
