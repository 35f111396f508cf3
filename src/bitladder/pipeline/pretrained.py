"""Which weights a pretrained network starts from: their file's hash, remembered by the store.

The file is a download that a library keeps; another one may take its place under the same name.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from bitladder.errors import ModelError
from bitladder.options import ModelOptions
from bitladder.pipeline.kinds import TRAIN
from bitladder.pipeline.versions import Versions
from bitladder.store import Store, stamp
from bitladder.user_code import is_import_path

# Where the libraries keep what they have downloaded.
_PLACES = ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")


def identify_weights(options: ModelOptions, store: Store) -> str | None:
    """SHA-256 in hex of the pretrained weights, or None where a network starts from none.

    Args:
        options: the network.
        store: it remembers the file, so that libraries are asked once.

    Raises:
        ModelError: there are no such weights, or they are neither on disk nor to be downloaded.
    """
    if not options.pretrained or is_import_path(options.name):
        return None
    determines = {
        "pretrained": options.name,
        "versions": Versions().of(TRAIN, {"model": {"name": options.name}}),
        "places": [os.environ.get(name) for name in _PLACES],
        "home": str(Path.home()),
    }
    remembered = store.memory.recall(determines) or {}
    with suppress(OSError, KeyError, TypeError):
        if remembered["stamps"] == _stamps(Path(remembered["path"])):
            return str(remembered["content"])
    path, content = _read(options.name)
    store.memory.remember(
        determines, {"path": str(path), "stamps": _stamps(path), "content": content}
    )
    return content


def check_weights(name: str, expected: str | None) -> None:
    """See that the weights that a network would start from here are those of the key.

    Raises:
        ModelError: they are not.
    """
    if expected is not None and _read(name)[1] != expected:
        raise ModelError(
            f"the pretrained weights of '{name}' here are not those with which the run began; "
            "run again, with the same file on every machine"
        )


def _read(name: str) -> tuple[Path, str]:
    from bitladder import models

    path = models.pretrained_file(name)
    with path.open("rb") as file:
        return path, hashlib.file_digest(file, "sha256").hexdigest()


def _stamps(path: Path) -> list[Any]:
    """Of the file, and of what says which file of a Hugging Face cache is the current one."""
    current = path.absolute().parents[2] / "refs" / "main"
    return [stamp(path), stamp(current) if current.is_file() else None]
