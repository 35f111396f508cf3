"""What several stages need: their inputs from the store, and the networks and images in them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bitladder import data, models, simulation, targets, tasks, techniques
from bitladder.errors import StoreError
from bitladder.ladder import Ladder
from bitladder.options import (
    DatasetOptions,
    LoaderOptions,
    ModelOptions,
    Normalization,
    Precision,
    TaskOptions,
    Technique,
    calibration_count,
    parse_techniques,
)
from bitladder.pipeline.datasets import load_known
from bitladder.pipeline.planning import Stage
from bitladder.progress import Progress
from bitladder.structures import Inputs, as_inputs, count, first, joined

if TYPE_CHECKING:
    from bitladder.store import Store

EVALUATION_BATCH = 250  # images; qualities do not depend on it
SIMULATED, QUANTIZED = "simulated.safetensors", "quantized.safetensors"


@dataclass(frozen=True)
class Workspace:
    """What a stage works with that does not determine its output.

    Attributes:
        store: where the outputs of other stages are.
        loader: where data sets are found.
        output: the empty folder that its files go to.
        report: called with the progress of training.
    """

    store: Store
    loader: LoaderOptions
    output: Path
    report: Callable[[Progress], None] | None = None

    def input(self, stage: Stage, role: str) -> Path:
        """Folder of the output of the stage that plays ``role``."""
        folder = self.store.get(stage.inputs[role], thorough=True)
        if folder is None:
            raise StoreError(
                f"input '{role}' of '{stage.label}' is missing or damaged; run again to make it"
            )
        return folder

    def logs(self, stage: Stage) -> Path:
        """Folder that TensorBoard logs are written to while a stage runs."""
        return self.store.scratch_path(stage.key) / "tensorboard"


def task_of(stage: Stage) -> tasks.Task:
    """What the outputs of the stage's network mean."""
    return tasks.find(TaskOptions.model_validate(stage.spec["task"]).name)


def recipe_of(stage: Stage, part: str) -> tuple[Technique, ...]:
    """The techniques before training (``recipe``) or from it on (``rest``)."""
    return parse_techniques(stage.spec.get(part, ()))


def images_of(stage: Stage, space: Workspace) -> data.ImageData:
    """The stage's data set."""
    options = DatasetOptions.model_validate(stage.spec["dataset"])
    task = TaskOptions.model_validate(stage.spec["task"])
    known = stage.spec["fingerprint"], *sorted(stage.given.items())
    return _load(options, space.loader, stage.spec["seed"], task.name, known)


@functools.lru_cache(maxsize=2)  # by what is known of the images and of the user's code
def _load(
    options: DatasetOptions, loader: LoaderOptions, seed: int, task: str, known: tuple[Any, ...]
) -> data.ImageData:
    return load_known(options, loader, seed, tasks.find(task), known[0])


def forget_images() -> None:
    """Free the data sets that this process keeps from stage to stage, and their files."""
    _load.cache_clear()


def pixels_of(stage: Stage, space: Workspace) -> data.ImageData:
    """The stage's data set as quantized networks take it: they normalize pixels themselves."""
    return images_of(stage, space).with_pixels()


def takes_bytes(stage: Stage) -> bool:
    """Whether the files that are exported in the end take the bytes of images."""
    return stage.spec.get("input") == "uint8"


def normalization_of(stage: Stage) -> Normalization | None:
    """What the float network's training did to the pixels."""
    return DatasetOptions.model_validate(stage.spec["dataset"]).normalization


def _taking_pixels(stage: Stage, network: nn.Module, inputs: Inputs) -> nn.Module:
    normalization = normalization_of(stage)
    if normalization is None:
        return network
    return simulation.normalized(network, normalization, inputs)


def network_of(stage: Stage, space: Workspace) -> nn.Module:
    """The stage's network with its initial weights."""
    images = images_of(stage, space)
    return models.build(
        ModelOptions.model_validate(stage.spec["model"]),
        classes=images.classes,
        shapes=images.shapes,
        seed=stage.spec["seed"],
        task=task_of(stage),
    )


def float_network(stage: Stage, space: Workspace) -> nn.Module:
    """The trained float network, in evaluation mode; it takes pixels."""
    model = network_of(stage, space)
    models.load_weights(model, space.input(stage, "float") / "weights.safetensors")
    inputs = data.calibration_images(pixels_of(stage, space), 1)
    return _taking_pixels(stage, model.eval(), inputs)


def ladder_of(stage: Stage, space: Workspace) -> Ladder:
    """The ladder that a stage climbs a part of."""
    recipe = (*recipe_of(stage, "recipe"), *recipe_of(stage, "rest"))
    wanted = calibration_count(recipe)
    images = pixels_of(stage, space)
    context = techniques.Context(
        precision=Precision.parse(stage.spec["precision"]),
        calibration=data.calibration_images(images, max(1, min(wanted, images.train.images))),
        reference=float_network(stage, space),
        task=task_of(stage),
        integer_outputs=targets.integer_outputs,
        target_outputs=targets.target_outputs,
        pixels=takes_bytes(stage),
        seed=stage.spec["seed"],
    )
    return Ladder(
        context,
        images.validation,
        lambda number: space.store.scratch(stage.key) / f"{number}.ckpt",
    )


def simulated_network(stage: Stage, space: Workspace) -> simulation.SimulatedModel:
    """The simulated network of an earlier stage, with its weights and ranges.

    Where the stage has the files that were exported, it is the one that they were written from.
    """
    inputs = data.calibration_images(pixels_of(stage, space), 1)
    network = _taking_pixels(stage, network_of(stage, space).eval(), inputs)
    context = techniques.Context(
        precision=Precision.parse(stage.spec["precision"]),
        calibration=inputs,
        reference=network,
        task=task_of(stage),
        pixels=takes_bytes(stage),
    )
    before = recipe_of(stage, "recipe")
    trained = recipe_of(stage, "rest") if stage.kind.name != "finetune" else ()
    model = techniques.rebuild((*before, *trained), network, context)
    assert isinstance(model, simulation.SimulatedModel)
    exported = "artifact" in stage.inputs
    role, name = ("artifact", QUANTIZED) if exported else ("simulated", SIMULATED)
    model.restore(space.input(stage, role) / name)
    return model.eval()


def first_of(batches: data.Batches, wanted: int, task: tasks.Task) -> tuple[Inputs, Any]:
    """The first images of a split with their target."""
    found: list[tuple[Inputs, Any]] = []
    for inputs, target in batches:
        found.append((as_inputs(inputs), target))
        if sum(count(given) for given, _ in found) >= wanted:
            break
    inputs = first(joined([given for given, _ in found]), wanted)
    targets_of_all = [one for _, target in found for one in target]
    return inputs, task.batch(targets_of_all[:wanted])
