"""Images in: named sets, folders or a function of the user's, split and ready to be batched.

Each name loads its file when it is first used, so that the processes that decode images start
without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitladder.data.loading import calibration_images, load
    from bitladder.data.splits import Batches, ImageData, LoaderSplit, Split
    from bitladder.data.unlabelled import images_without_targets, standardized

__all__ = [
    "Batches",
    "ImageData",
    "LoaderSplit",
    "Split",
    "calibration_images",
    "images_without_targets",
    "load",
    "standardized",
]
_HOMES = {
    "calibration_images": "loading",
    "load": "loading",
    "images_without_targets": "unlabelled",
    "standardized": "unlabelled",
}

if not TYPE_CHECKING:  # which would let every name pass

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'bitladder.data' has no attribute '{name}'")
        home = _HOMES.get(name, "splits")
        return getattr(importlib.import_module(f"bitladder.data.{home}"), name)
