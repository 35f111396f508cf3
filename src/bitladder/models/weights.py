"""Weights into a network from a file of any origin, and out of it as safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from bitladder.errors import ModelError
from bitladder.files import write_whole
from bitladder.models.checkpoint import TensorSet, read_checkpoint
from bitladder.models.fitting import Fit, Renamed, networks, renamed


def load_weights(
    model: nn.Module, path: str | Path, *, key: str | None = None, new_head: bool = False
) -> str:
    """Copy every parameter and buffer of a network from a file.

    The tensors are looked for under every key of the file, with the prefixes of training code
    (``module.``, ``model.``, ``_orig_mod.``, ``backbone.``, ``net.``, ``network.``) and without;
    what fits the network best is taken. Where ``model`` only wraps a network, as a shim does, the
    weights of that network will do.

    Args:
        model: the network; it is not touched unless the whole file fits.
        path: of a safetensors file, or one that ``torch.save`` has written.
        key: under which the tensors stand, such as ``ema`` or ``checkpoint.model``; by default it
            is found.
        new_head: leave the last layer as it is in ``model`` where the file's has another number of
            classes, or where the file has none; and convert a first convolution of colour images to
            grey ones (the sum over its channels), or the reverse (a third for each), so that it
            gives for a grey image what it gave for that in three channels.

    Returns:
        What was done, in one line.

    Raises:
        ModelError: the file is missing or cannot be read, tensors are missing, left over or of
            another shape, or one is not finite or of another kind of number.
    """
    path = Path(path)
    fits = [
        Fit(within, given, one.key, outer, new_head)
        for one in _chosen(read_checkpoint(path), key, path)
        for outer, within in networks(model)
        for given in renamed(one.tensors)
    ]
    best = min(fits, key=Fit.rank)  # the first of those that are alike
    best.check(str(path))
    best.check_values(str(path))
    best.load()
    return f"{path}: {best.told(fit.key for fit in fits if fit.whole and fit.key != best.key)}"


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors that have the network's own names; a last layer of other classes keeps its own.

    Args:
        model: the network.
        state: the tensors; those that the network lacks are left out.
        where: they come from, as an error says it.

    Raises:
        ModelError: a tensor is missing or of another shape.
    """
    own = model.state_dict()
    known = {name: tensor for name, tensor in state.items() if name in own}
    fit = Fit(model, Renamed(known), new_head=True)
    fit.check(where)
    fit.load()


def _chosen(sets: list[TensorSet], key: str | None, path: Path) -> list[TensorSet]:
    found = [one for one in sets if key is None or one.key == key]
    if not found:
        keys = ", ".join(repr(one.key) for one in sets[:8] if one.key) or "none"
        raise ModelError(f"{path} has no tensors under '{key}'; keys with tensors: {keys}")
    return found


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write every parameter and buffer as safetensors; equal weights give equal bytes.

    The file appears whole or not at all.

    Args:
        model: the network, on any device.
        path: the file to write; its folder exists.
        metadata: text kept in the file's header.

    Raises:
        StoreError: the file cannot be written.
    """
    # Clones, because safetensors refuses tensors that share memory.
    state = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    state = {key: value.contiguous() for key, value in state.items()}
    content = _sorted_header(safetensors.torch.save(state, metadata))
    write_whole(path, content)


def _sorted_header(content: bytes) -> bytes:
    """Sort the header's keys: safetensors writes metadata in an order that changes."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
