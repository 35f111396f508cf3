"""The kinds of stages: one record each, with everything that is known of one; free of torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitladder.models.names import MODELS, is_onnx_file
from bitladder.pipeline import stage_records as records
from bitladder.target_specs import known
from bitladder.user_code import is_import_path

Spec = Mapping[str, Any]
Condition = Callable[[Spec], bool] | None


def _perhaps_timm(spec: Spec) -> bool:
    """The network may be timm's: what torchvision has is known to torchvision alone."""
    name = spec["model"]["name"]
    return name not in MODELS and not is_import_path(name) and not is_onnx_file(name)


def _has(technique: str) -> Callable[[Spec], bool]:
    def has(spec: Spec) -> bool:
        steps = (*spec.get("recipe", ()), *spec.get("rest", ()))
        return any(technique in step for step in steps)

    return has


def _is_onnx(spec: Spec) -> bool:
    """The network is read from an ONNX file."""
    return is_onnx_file(spec["model"]["name"])


def _repairs_on(name: str | None = None) -> Callable[[Spec], bool]:
    """A technique asks a target: that one, or any."""

    def asks(spec: Spec) -> bool:
        steps = (*spec.get("recipe", ()), *spec.get("rest", ()))
        asked = [step["repair"].get("target", "onnxruntime") for step in steps if "repair" in step]
        return name in asked if name is not None else any(asked)

    return asks


def _integers(spec: Spec) -> bool:
    return _is_onnx(spec) or _has("integer_finetune")(spec) or _repairs_on()(spec)


_EVERY: Mapping[str, Condition] = {
    **dict.fromkeys(("torch", "torchvision", "lightning", "numpy", "pillow")),
    "timm": _perhaps_timm,
    **dict.fromkeys(("onnx", "onnxruntime"), _is_onnx),
}
_SIMULATING: Mapping[str, Condition] = {
    **_EVERY,
    "aimet-torch": None,
    "triton": None,
    "scipy": _has("mixed_precision"),
}
_ONNX: Mapping[str, Condition] = dict.fromkeys(("onnx", "onnxruntime"))
_INTEGERS: Mapping[str, Condition] = {
    **{package: _repairs_on(name) for name, spec in known().items() for package in spec.packages},
    **dict.fromkeys(("onnx", "onnxruntime"), _integers),
}


def _of_targets() -> Mapping[str, Condition]:
    """The packages of each target, where that is the one that runs."""

    def runs(name: str) -> Condition:
        return lambda spec: bool(spec["target"]["name"] == name)

    return {package: runs(name) for name, spec in known().items() for package in spec.packages}


@dataclass(frozen=True, eq=False)  # one of each: a kind is itself
class StageKind:
    """A kind of stage.

    Attributes:
        name: of the kind, which begins its labels.
        code: raised when its code changes what it writes, so that old outputs are not taken.
        record: the dataclass that it returns.
        function: ``module:function`` that runs it.
        packages: whose versions its output depends on, each with the condition on the stage's
            options under which it is used, or None for always.
        seconds: it takes where none of its kind was ever measured.
        measured: it climbs the ladder, so that its record has rungs.
        trains: it trains: it asks for a worker's resources, and has TensorBoard logs.
        simulates: it builds the simulated network.
        files: that a person takes away from its output.
    """

    name: str
    code: int
    record: type[records.Record]
    function: str
    packages: Mapping[str, Condition]
    seconds: float
    measured: bool = False
    trains: bool = False
    simulates: bool = True
    files: tuple[str, ...] = field(default=())

    def load(self) -> Callable[..., records.Record]:
        """The function that runs it."""
        module, _, name = self.function.partition(":")
        found: Callable[..., records.Record] = getattr(importlib.import_module(module), name)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker has the same kinds, by name."""
        return _named, (self.name,)


def _named(name: str) -> StageKind:
    return KINDS[name]


TRAIN = StageKind(
    name="train",
    code=5,
    record=records.TrainRecord,
    function="bitladder.pipeline.stages.train:train",
    packages=_EVERY,
    seconds=120.0,
    measured=True,
    trains=True,
    simulates=False,
    files=("weights.safetensors",),
)
QUANTIZE = StageKind(
    name="quantize",
    code=6,
    record=records.ClimbRecord,
    function="bitladder.pipeline.stages.climb:quantize",
    packages={**_SIMULATING, **_INTEGERS},
    seconds=30.0,
    measured=True,
)
EXPLAIN = StageKind(
    name="explain",
    code=4,
    record=records.ExplainRecord,
    function="bitladder.pipeline.stages.explain:explain",
    packages=_SIMULATING,
    seconds=60.0,
)
FINETUNE = StageKind(
    name="finetune",
    code=6,
    record=records.ClimbRecord,
    function="bitladder.pipeline.stages.climb:finetune",
    packages={**_SIMULATING, **_INTEGERS},
    seconds=120.0,
    measured=True,
    trains=True,
)
EXPORT = StageKind(
    name="export",
    code=12,
    record=records.ExportRecord,
    function="bitladder.pipeline.stages.export:export",
    packages={
        **_SIMULATING,
        **_ONNX,
        "onnxruntime-qnn": lambda spec: bool(spec["export"]["dlc"] or spec["export"]["context"]),
    },
    seconds=10.0,
    measured=True,
    files=(
        "quantized.safetensors",
        *dict.fromkeys(spec.dialect.file for spec in known().values()),
        "float.onnx",
        "encodings.json",
        "model.dlc",
        "float.dlc",
        "context.onnx",
        "context.bin",
    ),
)
VERIFY = StageKind(
    name="verify",
    code=11,
    record=records.VerifyRecord,
    function="bitladder.pipeline.stages.verify:verify",
    packages={
        **_SIMULATING,
        **_of_targets(),
        **_ONNX,
    },
    seconds=30.0,
)
TEST = StageKind(
    name="test",
    code=4,
    record=records.TestRecord,
    function="bitladder.pipeline.stages.test:test",
    packages=_SIMULATING,
    seconds=10.0,
)
KINDS: Mapping[str, StageKind] = {
    kind.name: kind for kind in (TRAIN, QUANTIZE, EXPLAIN, FINETUNE, EXPORT, VERIFY, TEST)
}
"""By name, in the order in which a cell's stages run."""
