"""From a study to its stages: what each depends on and the key of all that determines its output.

Free of torch, so that ``plan`` answers at once.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product, takewhile
from pathlib import Path
from typing import Any, Literal

from bitladder.errors import ModelError
from bitladder.options import DatasetOptions, ModelOptions, Precision, Technique, dump_recipe
from bitladder.store import digest
from bitladder.study import Study, load

Kind = Literal["train", "quantize", "explain", "finetune", "export", "verify", "test"]

# Raise a stage's number when its code changes what it writes.
_CODE = {
    "train": 1,
    "quantize": 3,
    "explain": 2,
    "finetune": 3,
    "export": 7,
    "verify": 6,
    "test": 2,
}
_LIBRARIES = ("torch", "torchvision", "lightning", "aimet-torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Stage:
    """A unit of cached work.

    Attributes:
        kind: what it does.
        key: SHA-256 in hex of everything that determines its output.
        label: what a person calls it.
        spec: its options, JSON values.
        inputs: the stages whose outputs it reads, by role.
    """

    kind: Kind
    key: str
    label: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Its data set and network, by name."""
        return f"{self.spec['dataset']['name']} {self.spec['model']['name']}"


@dataclass(frozen=True)
class Cell:
    """One (data set, model, precision) of a study, with its stages in the order they run."""

    dataset: DatasetOptions
    model: ModelOptions
    precision: Precision
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """Name of the cell and of its folder, such as ``mnist/resnet18/w8a8``."""
        dataset = self.dataset.name.rstrip("/").rpartition("/")[2].replace(":", ".")
        return f"{dataset}/{self.model.name.replace(':', '.')}/{self.precision}"

    @property
    def keys(self) -> list[str]:
        """The keys of its stages."""
        return [stage.key for stage in self.stages]

    def stage(self, kind: Kind) -> Stage | None:
        """The stage of that kind, or None where the recipe has none."""
        return next((stage for stage in self.stages if stage.kind == kind), None)


def plan(study: Study | str | Path) -> list[Cell]:
    """The cells and stages of a study; the data is not read, so the keys are provisional.

    Raises:
        StudyError: the study is not valid.
    """
    if not isinstance(study, Study):
        study = load(study)
    return build(study, {dataset.name: "not read" for dataset in study.datasets}, test=())


def build(
    study: Study,
    fingerprints: Mapping[str, str],
    test: Sequence[str],
    *,
    explain: int | None = None,
) -> list[Cell]:
    """The cells of a study, stages shared where cells share them.

    Args:
        study: what to run.
        fingerprints: by data set name, the hash of its images, labels and split.
        test: names of the data sets that have an official test split.
        explain: validation images to explain each cell on before any training, or None to run
            the cells whole. A study that explains itself measures it beside them, with the
            same key.
    """
    return [
        _cell(
            study,
            dataset,
            model,
            precision,
            fingerprints[dataset.name],
            dataset.name in test,
            explain,
        )
        for dataset, model, precision in product(study.datasets, study.models, study.precisions)
    ]


def _cell(
    study: Study,
    dataset: DatasetOptions,
    model: ModelOptions,
    precision: Precision,
    fingerprint: str,
    test: bool,
    explain: int | None,
) -> Cell:
    before, after = split_recipe(study.recipe)
    network = {
        "dataset": dataset.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "model": model.model_dump(mode="json"),
        "weights": _hash_weights(model.weights),
        "seed": study.seed,
    }
    simulation = {**network, "precision": str(precision), "recipe": dump_recipe(before)}
    where = f"{dataset.name} {model.name}"
    here = f"{where} {precision}"

    train = _stage("train", where, {**network, "train": study.train.model_dump(mode="json")}, {})
    stages = [train, _stage("quantize", here, simulation, {"float": train})]
    final = {"float": train, "simulated": stages[-1]}
    images = explain or (study.explain and study.explain.images)
    if images:
        stages.append(_stage("explain", here, {**simulation, "images": images}, final))
    if explain is not None:
        return Cell(dataset, model, precision, tuple(stages))
    if after:
        simulation = {**simulation, "rest": dump_recipe(after)}
        stages.append(_stage("finetune", here, simulation, final))
        final = {"float": train, "simulated": stages[-1]}
    exporting = {**simulation, "export": study.export.model_dump(mode="json")}
    stages.append(_stage("export", here, exporting, final))
    exported = {"artifact": stages[-1]}
    if test:
        stages.append(_stage("test", here, simulation, {"float": train, **exported}))
    for target in study.verify:
        spec = {**simulation, "target": target.model_dump(mode="json")}
        stages.append(_stage("verify", f"{here} on {target.label}", spec, exported))
    return Cell(dataset, model, precision, tuple(stages))


def split_recipe(
    recipe: Sequence[Technique],
) -> tuple[tuple[Technique, ...], tuple[Technique, ...]]:
    """What the quantize stage applies, and what the finetune stage applies after it."""
    before = tuple(takewhile(lambda technique: not technique.trains, recipe))
    return before, tuple(recipe[len(before) :])


def _stage(kind: Kind, label: str, spec: dict[str, Any], inputs: Mapping[str, Stage]) -> Stage:
    keys = {role: stage.key for role, stage in inputs.items()}
    determines = {
        "kind": kind,
        "code": _CODE[kind],
        "spec": {key: value for key, value in spec.items() if key != "dataset"},
        "preprocessing": {k: v for k, v in spec["dataset"].items() if k != "name"},
        "inputs": keys,
        "versions": versions(),
    }
    return Stage(kind, digest(determines), f"{kind} {label}", spec, keys)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{library: version(library) for library in ("bitladder", *_LIBRARIES)},
    }


@functools.cache
def _hash_weights(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"weights {path}: cannot read this file: {error.strerror}") from None
