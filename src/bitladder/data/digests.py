"""What items of a data set are known by: hashes of their inputs and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bitladder.data.reader import Item
from bitladder.data.splits import Targets
from bitladder.structures import as_inputs


def digest_of_item(item: Item) -> bytes:
    """SHA-256 of an item's inputs and target."""
    inputs, target = item
    found = hashlib.sha256()
    for one in as_inputs(inputs):
        found.update(one.contiguous().numpy().data)
    _add_target(found, target)
    return found.digest()


def digest_of_targets(targets: Targets) -> str:
    """SHA-256 in hex of the targets of several images."""
    found = hashlib.sha256()
    _add_target(found, targets)
    return found.hexdigest()


def _add_target(found: Any, target: Any) -> None:
    """Hash a target, or a nested one."""
    if isinstance(target, Tensor):
        found.update(f"{target.dtype} {tuple(target.shape)}".encode())
        found.update(target.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(target, Mapping):
        for key in sorted(target, key=str):
            found.update(str(key).encode())
            _add_target(found, target[key])
    elif isinstance(target, list | tuple):
        found.update(str(len(target)).encode())
        for part in target:
            _add_target(found, part)
    else:
        found.update(str(target).encode())
