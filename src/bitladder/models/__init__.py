"""A name -> a network: the built-ins, any torchvision or timm name, or a function of one's own.

The names load without torch (``bitladder.models.names``); the rest loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bitladder.models.names import MODELS, check_name

if TYPE_CHECKING:
    from bitladder.models.onnx_file import ImageInput, ImportedNetwork, from_onnx, image_input
    from bitladder.models.registry import build, pretrained_file
    from bitladder.models.shim import WithShim
    from bitladder.models.size import NetworkSize
    from bitladder.models.summary import summarize
    from bitladder.models.weights import load_weights, save_weights

__all__ = [
    "MODELS",
    "ImageInput",
    "ImportedNetwork",
    "NetworkSize",
    "WithShim",
    "build",
    "check_name",
    "from_onnx",
    "image_input",
    "load_weights",
    "pretrained_file",
    "save_weights",
    "summarize",
]

_HOMES = {
    "ImageInput": "onnx_file",
    "ImportedNetwork": "onnx_file",
    "NetworkSize": "size",
    "WithShim": "shim",
    "build": "registry",
    "from_onnx": "onnx_file",
    "image_input": "onnx_file",
    "load_weights": "weights",
    "pretrained_file": "registry",
    "save_weights": "weights",
    "summarize": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bitladder.models' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bitladder.models.{_HOMES[name]}"), name)
