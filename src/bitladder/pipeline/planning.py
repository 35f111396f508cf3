"""From a study to its stages: what each depends on and the key of all that determines its output.

Free of torch, so that ``plan`` answers at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product, takewhile
from pathlib import Path
from typing import Any

from bitladder.options import (
    DatasetOptions,
    ModelOptions,
    Options,
    Precision,
    Technique,
    dump_recipe,
    fitting,
    suited,
)
from bitladder.pipeline.given import Given
from bitladder.pipeline.kinds import (
    EXPLAIN,
    EXPORT,
    FINETUNE,
    QUANTIZE,
    TEST,
    TRAIN,
    VERIFY,
    StageKind,
)
from bitladder.pipeline.names import folders, labels
from bitladder.pipeline.versions import Versions
from bitladder.store import digest
from bitladder.study import NamedRecipe, Study, load

_KEYS = 3  # raise it when a key holds more than it did


@dataclass(frozen=True)
class Stage:
    """A unit of cached work.

    Attributes:
        kind: what it does.
        key: SHA-256 in hex of everything that determines its output.
        label: what a person calls it.
        spec: its options, JSON values.
        inputs: the stages whose outputs it reads, by role.
        network: its data set and network, by name.
        given: hashes of the files and of the user's functions that its options name.
        versions: of the packages that it uses, and the switches that it follows.
    """

    kind: StageKind
    key: str
    label: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One (data set, model, precision, recipe, seed) with its stages in the order they run.

    Attributes:
        dataset: its data set.
        model: its network.
        precision: its bits.
        recipe: its techniques, with their name.
        seed: its seed.
        stages: in the order they run.
        dataset_label: what tables call the data set; no other data set of the study has it.
        model_label: what tables call the network.
        name: of the cell and of its folder, such as ``mnist/resnet18/w8a8``; where the study has
            several recipes or seeds, ``mnist/resnet18/w8a8/qat/seed2``.
        unseen: what its key cannot hold, a line each.
        absent: targets of the study that are not installed and so have no stage, a line each.
    """

    dataset: DatasetOptions
    model: ModelOptions
    precision: Precision
    recipe: NamedRecipe
    seed: int
    stages: tuple[Stage, ...]
    dataset_label: str
    model_label: str
    name: str
    unseen: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know before it runs, a line each."""
        return (*self.unseen, *self.absent)

    @property
    def keys(self) -> list[str]:
        """The keys of its stages."""
        return [stage.key for stage in self.stages]

    def stage(self, kind: StageKind) -> Stage | None:
        """The stage of that kind, or None where the recipe has none."""
        return next((stage for stage in self.stages if stage.kind is kind), None)


def plan(study: Study | str | Path) -> list[Cell]:
    """The cells and stages of a study; the data is not read, so the keys are provisional.

    Raises:
        StudyError: the study is not valid.
    """
    if not isinstance(study, Study):
        study = load(study)
    names = [
        fingerprint_name(study, label, seed)
        for label in labels(study.datasets)
        for seed in study.every_seed
    ]
    return build(study, dict.fromkeys(names, "not read"), test=())


def fingerprint_name(study: Study, label: str, seed: int) -> str:
    """What ``build`` calls the images of a data set as a seed splits them.

    The data set's label alone where the study has one seed.
    """
    return label if len(study.every_seed) == 1 else f"{label} seed {seed}"


def build(
    study: Study,
    fingerprints: Mapping[str, str],
    test: Collection[str],
    *,
    explain: bool = False,
    weights: Mapping[str, str] | None = None,
) -> list[Cell]:
    """The cells of a study, stages shared where cells share them.

    Args:
        study: what to run.
        fingerprints: by ``fingerprint_name``, the hash of a data set's images, labels and split.
        test: labels of the data sets that have an official test split.
        explain: end each cell with its stage ``explain``, which a study that explains its cells
            has among the others, with the same key.
        weights: by network label, the hash of the pretrained weights that it starts from.

    Raises:
        ModelError, StudyError: a file that an option names is missing or cannot be read.
    """
    datasets = zip(study.datasets, labels(study.datasets), folders(study.datasets), strict=True)
    models = zip(study.models, labels(study.models), folders(study.models), strict=True)
    builder = _Builder(study, Given(), Versions())
    missing = [(one.label, one.spec.missing) for one in study.verify]
    absent = tuple(f"not measured: {label}: {why}" for label, why in missing if why is not None)
    cells = []
    for one, other, precision, recipe, seed in product(
        datasets, models, study.precisions, study.every_recipe, study.every_seed
    ):
        dataset, called, folder = one
        model, model_called, model_folder = other
        own = f"seed{seed}" if len(study.every_seed) > 1 else ""
        by = recipe.name if len(study.every_recipe) > 1 else ""
        stages = builder.stages(
            dataset,
            model,
            precision,
            fitting(suited(recipe.steps, precision), [one.name for one in study.verify]),
            seed,
            label=" ".join(filter(None, (called, model_called, own))),
            by=by,
            fingerprint=fingerprints[fingerprint_name(study, called, seed)],
            test=called in test,
            explain=explain,
            weights=(weights or {}).get(model_called),
        )
        cells.append(
            Cell(
                dataset,
                model,
                precision,
                recipe,
                seed,
                tuple(stages),
                dataset_label=called,
                model_label=model_called,
                name="/".join(filter(None, (folder, model_folder, str(precision), by, own))),
                unseen=tuple(
                    builder.given.unseen([study.task, dataset, model, study.train, *recipe.steps])
                ),
                absent=() if explain else absent,
            )
        )
    return cells


@dataclass
class _Builder:
    """Makes the stages of a study's cells."""

    study: Study
    given: Given
    versions: Versions
    made: dict[str, Stage] = field(default_factory=dict)
    """By key: cells share stages, with the label of the first."""

    def stages(
        self,
        dataset: DatasetOptions,
        model: ModelOptions,
        precision: Precision,
        recipe: Sequence[Technique],
        seed: int,
        *,
        label: str,
        by: str,
        fingerprint: str,
        test: bool,
        explain: bool,
        weights: str | None,
    ) -> list[Stage]:
        """The stages of a cell, in the order they run."""
        study = self.study
        before, after = split_recipe(recipe)
        network = {
            "dataset": dataset.model_dump(mode="json"),
            "fingerprint": fingerprint,
            "model": model.model_dump(mode="json"),
            "task": study.task.model_dump(mode="json"),
            "seed": seed,
        }
        simulation = {**network, "precision": str(precision), "recipe": dump_recipe(before)}
        if study.export.input != "float":
            simulation["input"] = study.export.input
        if dataset.normalization is not None:
            simulation["takes"] = "pixels"
        names: tuple[Options, ...] = (study.task, dataset, model)
        here = " ".join(filter(None, (label, str(precision), by)))

        def stage(
            kind: StageKind,
            spec: dict[str, Any],
            inputs: Mapping[str, Stage],
            *more: Options,
            where: str = here,
        ) -> Stage:
            named = self.given.of((*names, *more))
            versions = self.versions.of(kind, spec)
            made = _stage(kind, where, spec, inputs, label, named, versions)
            return self.made.setdefault(made.key, made)

        train_options = study.train.model_dump(mode="json")
        floats = {**network, "train": train_options, "pretrained": weights}
        train = stage(TRAIN, floats, {}, study.train, where=label)
        names = (*names, *before)
        stages = [train, stage(QUANTIZE, simulation, {"float": train})]
        final = {"float": train, "simulated": stages[-1]}
        measured = {"quantized": stages[-1]}
        if study.explain is not None:
            explained = {**simulation, "images": study.explain.images}
            stages.append(stage(EXPLAIN, explained, final))
        if explain:
            return stages
        names = (*names, *after)
        if after:
            simulation = {**simulation, "rest": dump_recipe(after)}
            stages.append(stage(FINETUNE, simulation, final))
            final = {"float": train, "simulated": stages[-1]}
            measured["tuned"] = stages[-1]
        exporting = {**simulation, "export": study.export.model_dump(mode="json")}
        stages.append(stage(EXPORT, exporting, {**final, **measured}, study.export))
        exported = {"artifact": stages[-1]}
        if test:
            stages.append(stage(TEST, simulation, {"float": train, **exported}))
        for target in study.verify:
            if target.spec.missing is not None:
                continue
            spec = {**simulation, "target": target.model_dump(mode="json")}
            where = f"{here} on {target.label}"
            stages.append(stage(VERIFY, spec, exported, target, where=where))
        return stages


def split_recipe(
    recipe: Sequence[Technique],
) -> tuple[tuple[Technique, ...], tuple[Technique, ...]]:
    """What the quantize stage applies, and what the finetune stage applies after it."""
    before = tuple(takewhile(lambda technique: not technique.trains, recipe))
    return before, tuple(recipe[len(before) :])


def _stage(
    kind: StageKind,
    label: str,
    spec: dict[str, Any],
    inputs: Mapping[str, Stage],
    network: str,
    given: Mapping[str, str],
    versions: Mapping[str, str],
) -> Stage:
    keys = {role: stage.key for role, stage in inputs.items()}
    determines = {
        "keys": _KEYS,
        "kind": kind.name,
        "code": kind.code,
        "spec": {key: value for key, value in spec.items() if key != "dataset"},
        "preprocessing": {k: v for k, v in spec["dataset"].items() if k != "name"},
        "inputs": keys,
        "given": given,
        "versions": versions,
    }
    key = digest(determines)
    return Stage(kind, key, f"{kind.name} {label}", spec, keys, network, given, versions)
