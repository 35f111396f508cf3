"""The packages and switches that can change a number, and which stages use them; free of torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
from collections.abc import Mapping
from typing import Any

from bitladder.pipeline.kinds import KINDS, StageKind
from bitladder.user_code import as_loaded

SWITCHES = (
    "AIMET_ENCODING_VERSION",
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    *("DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA"),
    *("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    "NVIDIA_TF32_OVERRIDE",
    *("ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA"),
    "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables by which libraries compute in another way; they count where they are set.

``BITLADDER_KERNEL`` and ``CXX`` count by what they decide: whether the kernel runs.
"""
_MODULES = {"pillow": "PIL"}


class Versions:
    """What is installed and set here, looked up once each."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def of(self, kind: StageKind, spec: Mapping[str, Any]) -> dict[str, str]:
        """What a stage's numbers depend on beside its options and inputs.

        Args:
            kind: of the stage.
            spec: the stage's options.
        """
        used = [
            name
            for name, condition in kind.packages.items()
            if condition is None or condition(spec)
        ]
        found = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: self._version(name) for name in ("bitladder", *sorted(used))},
        }
        if kind.simulates:
            found["kernel"] = kernel()
        for name in SWITCHES:
            if name in os.environ:
                found[name] = os.environ[name]
        return found

    def of_images(self) -> dict[str, str]:
        """What decides which pixels are read from files."""
        names = ("bitladder", "torch", "torchvision", "numpy", "pillow")
        return {name: self._version(name) for name in names}

    def everything(self) -> dict[str, str]:
        """All packages that any stage uses, and all switches."""
        names = sorted({name for kind in KINDS.values() for name in kind.packages})
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: self._version(name) for name in ("bitladder", *names)},
            "kernel": kernel(),
            **{name: os.environ[name] for name in SWITCHES if name in os.environ},
        }

    def _version(self, package: str) -> str:
        if package not in self._found:
            self._found[package] = _version(package)
        return self._found[package]


def kernel() -> str:
    """Whether the C++ kernel runs: it is turned off, or there is no compiler, or it does."""
    if os.environ.get("BITLADDER_KERNEL") == "0":
        return "off"
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    return "on" if compiler and shutil.which(compiler[0]) else "no compiler"


def _version(package: str) -> str:
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = "not installed"
    return as_loaded(package, found, _MODULES.get(package, package.replace("-", "_")))
