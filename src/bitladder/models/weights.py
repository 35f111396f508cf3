"""Weights to and from files: safetensors written, safetensors or PyTorch's own format read.

No code in a file is ever run: ``.pth`` is read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bitladder.errors import ModelError
from bitladder.files import write_whole

_PYTORCH_SUFFIXES = (".pth", ".pt", ".ckpt")


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy every parameter and buffer of a model from a file.

    Args:
        model: the network; it is not touched unless the whole file fits.
        path: a ``.safetensors`` file, or a ``.pth`` file with a state dict, plain or under the
            key ``state_dict``.

    Raises:
        ModelError: the file is missing or cannot be read, or a key or a shape does not fit.
    """
    state = read_state(path)
    _check_fit(model.state_dict(), state, path)
    model.load_state_dict(dict(state))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU.

    Raises:
        ModelError: the file is missing, of another format, or cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist")
    if path.suffix == ".safetensors":
        try:
            state: dict[str, Tensor] = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a readable safetensors file: {error}") from None
        return state
    if path.suffix in _PYTORCH_SUFFIXES:
        return _read_pytorch(path)
    raise ModelError(f"weights file {path} is neither .safetensors nor .pth")


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


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises many types here; the first line says enough.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} is not a readable PyTorch weights file: {reason.strip()}"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise ModelError(f"{path} holds no state dict; save model.state_dict()")
    return dict(content)


def _check_fit(needed: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    for key, value in needed.items():
        if key not in given:
            raise ModelError(f"{path} has no '{key}', shape {_shape(value)}, that the model needs")
        if given[key].shape != value.shape:
            raise ModelError(
                f"{path}: '{key}' has shape {_shape(given[key])}, "
                f"the model needs {_shape(value)}; check the model and its number of classes"
            )
    for key, value in given.items():
        if key not in needed:
            raise ModelError(f"{path} has '{key}', shape {_shape(value)}, that the model lacks")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
