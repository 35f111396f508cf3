"""The packages and switches that can change a number, and which stages use them; free of torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Literal

from bitladder.models.names import MODELS
from bitladder.user_code import as_loaded, is_import_path

Kind = Literal["train", "quantize", "explain", "finetune", "export", "verify", "test"]
Spec = Mapping[str, Any]
KINDS: tuple[Kind, ...] = (
    *("train", "quantize", "explain", "finetune", "export", "verify", "test"),
)  # fmt: skip
_SIMULATED = KINDS[1:]
_TUNED = ("quantize", "finetune")


def _perhaps_timm(spec: Spec) -> bool:
    """The network may be timm's: what torchvision has is known to torchvision alone."""
    name = spec["model"]["name"]
    return name not in MODELS and not is_import_path(name)


def _has(technique: str) -> Callable[[Spec], bool]:
    def has(spec: Spec) -> bool:
        steps = (*spec.get("recipe", ()), *spec.get("rest", ()))
        return any(technique in step for step in steps)

    return has


def _writes_for_devices(spec: Spec) -> bool:
    return bool(spec["export"]["dlc"] or spec["export"]["context"])


def _on_htp(spec: Spec) -> bool:
    return bool(spec["target"]["name"] == "htp")


_ONNX = ("onnx", "onnxruntime")
# By kind of stage, each package with the condition on the stage's options under which it is used.
PACKAGES: Mapping[Kind, Mapping[str, Callable[[Spec], bool] | None]] = {
    kind: {
        **dict.fromkeys(("torch", "torchvision", "lightning", "numpy", "pillow")),
        "timm": _perhaps_timm,
        **(
            {"aimet-torch": None, "triton": None, "scipy": _has("mixed_precision")}
            if kind in _SIMULATED
            else {}
        ),
        **(dict.fromkeys(_ONNX) if kind in ("export", "verify") else {}),
        **({name: _has("integer_finetune") for name in _ONNX} if kind in _TUNED else {}),
        **({"onnxruntime-qnn": _writes_for_devices} if kind == "export" else {}),
        **({"onnxruntime-qnn": _on_htp} if kind == "verify" else {}),
    }
    for kind in KINDS
}
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

    def of(self, kind: Kind, spec: Spec) -> dict[str, str]:
        """What a stage's numbers depend on beside its options and inputs.

        Args:
            kind: of the stage.
            spec: the stage's options.
        """
        used = [
            name
            for name, condition in PACKAGES[kind].items()
            if condition is None or condition(spec)
        ]
        found = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: self._version(name) for name in ("bitladder", *sorted(used))},
        }
        if kind in _SIMULATED:
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
        names = sorted({name for packages in PACKAGES.values() for name in packages})
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
