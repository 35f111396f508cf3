"""The built-in networks by name, and what can be said of a name before torch is loaded.

A study is planned with this file alone; ``registry`` builds what the names stand for.
"""

from __future__ import annotations

from typing import Literal

from bitladder.errors import ModelError

MODELS = (
    "resnet18",
    "mobilenet_v2",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x0_5",
    "efficientnet_b1",
)
"""The networks of the original report, all of them torchvision's."""


def is_onnx_file(name: str) -> bool:
    """Whether a model's name is the path of an ONNX file."""
    return name.endswith(".onnx")


def is_import_path(name: str) -> bool:
    """Whether a model's name has the form ``package.module:function``."""
    return ":" in name and not is_onnx_file(name)


def check_name(name: str) -> Literal["built-in", "checked at run"]:
    """Say whether a name is built in, or can only be looked up once torch is loaded.

    Raises:
        ModelError: the name can be no model at all.
    """
    if name in MODELS:
        return "built-in"
    if is_import_path(name):
        split_import_path(name)
    elif not name.strip():
        raise ModelError(f"a model needs a name; built in are {', '.join(MODELS)}")
    return "checked at run"


def split_import_path(name: str) -> tuple[str, str]:
    """Split ``package.module:function`` into its module and its function.

    Raises:
        ModelError: a part of it is not a Python name.
    """
    module, _, function = name.partition(":")
    parts = [*module.split("."), function]
    if not all(part.isidentifier() for part in parts):
        raise ModelError(f"model '{name}' is not of the form package.module:function")
    return module, function
