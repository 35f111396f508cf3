"""A name -> a network: the built-ins, any torchvision or timm name, or a function of one's own.

The names load without torch (``bitladder.models.names``); the rest loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bitladder.models.names import MODELS, check_name

if TYPE_CHECKING:
    from bitladder.models.onnx_file import ImportedNetwork, from_onnx, open_size
    from bitladder.models.registry import build, pretrained_file
    from bitladder.models.shim import WithShim
    from bitladder.models.size import NetworkSize
    from bitladder.models.summary import summarize
    from bitladder.models.weights import load_weights, save_weights

__all__ = [
    "MODELS",
    "ImportedNetwork",
    "NetworkSize",
    "WithShim",
    "build",
    "check_name",
    "from_onnx",
    "load_weights",
    "open_size",
    "pretrained_file",
    "save_weights",
    "summarize",
]

_HOMES = {
    "ImportedNetwork": "onnx_file",
    "NetworkSize": "size",
    "WithShim": "shim",
    "build": "registry",
    "from_onnx": "onnx_file",
    "load_weights": "weights",
    "open_size": "onnx_file",
    "pretrained_file": "registry",
    "save_weights": "weights",
    "summarize": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitladder.models' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bitladder.models.{_HOMES[name]}"), name)
