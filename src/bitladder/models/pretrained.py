"""ImageNet's weights of torchvision and timm, with a new last layer for other classes."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

import torch
import torchvision.models
from torch import Tensor, nn

from bitladder.errors import ModelError
from bitladder.models.weights import load_state

_TIMEOUT = 10.0


def load_torchvision(model: nn.Module, name: str) -> None:
    """Copy torchvision's ImageNet weights; a last layer of another size keeps its own.

    Args:
        model: torchvision's network of that name, with any number of classes.
        name: torchvision's name of it.

    Raises:
        ModelError: there are no such weights, or they are neither on disk nor to be downloaded.
    """
    load_state(model, _torchvision_state(name), f"the pretrained weights of '{name}'")


def load_timm(name: str, classes: int, channels: int) -> nn.Module:
    """Build timm's network with its pretrained weights and a new last layer.

    Raises:
        ModelError: there are no such weights, or they are neither on disk nor to be downloaded.
    """
    import timm

    path = str(timm_file(name))
    try:
        model: nn.Module = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": path},
            num_classes=classes,
            in_chans=channels,
        )
    except Exception as error:
        raise ModelError(f"the pretrained weights {path} do not fit '{name}'") from error
    return model


def timm_file(name: str) -> Path:
    """The file of timm's pretrained weights, downloaded if it is not there.

    Raises:
        ModelError: there are no such weights, or they are neither on disk nor to be downloaded.
    """
    import timm

    settings = timm.get_pretrained_cfg(name)
    repository = settings and settings.hf_hub_id
    if not repository:
        raise ModelError(f"timm has no pretrained weights for '{name}'; set pretrained: false")
    return Path(_timm_file(name, str(repository)))


def _timm_file(name: str, repository: str) -> str:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    file = "model.safetensors"
    with contextlib.suppress(LocalEntryNotFoundError):
        return hf_hub_download(repository, file, local_files_only=True)
    try:
        # The hub retries for most of a minute where there is no network, so look first.
        with contextlib.suppress(HTTPError), urlopen(constants.ENDPOINT, timeout=_TIMEOUT):
            pass
        return hf_hub_download(repository, file)
    except Exception as error:
        raise ModelError(
            f"the pretrained weights of '{name}' cannot be downloaded; put {file} of the "
            f"repository {repository} into the Hugging Face cache {constants.HF_HUB_CACHE}"
        ) from error


def torchvision_file(name: str) -> Path:
    """The file of torchvision's ImageNet weights, downloaded if it is not there.

    Raises:
        ModelError: there are no such weights, or they are neither on disk nor to be downloaded.
    """
    path = _path(torchvision.models.get_model_weights(name).DEFAULT.url)
    if not path.is_file():
        _torchvision_state(name)
    return path


def _path(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _torchvision_state(name: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    path = _path(weights.url)
    was_there = path.is_file()
    try:
        with _quick_failure():
            state: dict[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
    except Exception as error:
        if was_there:
            raise ModelError(f"{path} is damaged: remove it or put it there again") from error
        raise ModelError(
            f"the pretrained weights of '{name}' cannot be downloaded; "
            f"put {path.name} (from {weights.url}) into {path.parent}"
        ) from error
    return state


@contextlib.contextmanager
def _quick_failure() -> Iterator[None]:
    """Bound each wait for the network, and keep notes of a download off the standard output."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)
