"""Climb the ladder: the techniques before training, and those from it on."""

from __future__ import annotations

import shutil

from torch import nn

from bitladder import simulation, techniques
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import ClimbRecord
from bitladder.pipeline.stages.common import (
    SIMULATED,
    Workspace,
    ladder_of,
    pixels_of,
    recipe_of,
    simulated_network,
)
from bitladder.rungs import Rung


def quantize(stage: Stage, space: Workspace) -> ClimbRecord:
    """Apply what comes before training, and write ``simulated.safetensors``."""
    ladder = ladder_of(stage, space)
    model = ladder.climb(recipe_of(stage, "recipe"), ladder.context.reference)
    return _written(ladder.rungs, model, space)


def finetune(stage: Stage, space: Workspace) -> ClimbRecord:
    """Apply what comes from the first training on, and write ``simulated.safetensors``."""
    images, ladder = pixels_of(stage, space), ladder_of(stage, space)
    ladder.context.training = techniques.TrainingData(
        train=images.train,
        validation=images.validation,
        classes=images.classes,
        log_dir=space.logs(stage),
        report=space.report,
    )
    model = ladder.climb(recipe_of(stage, "rest"), simulated_network(stage, space))
    shutil.move(space.logs(stage), space.output)
    return _written(ladder.rungs, model, space)


def _written(rungs: list[Rung], model: nn.Module, space: Workspace) -> ClimbRecord:
    assert isinstance(model, simulation.SimulatedModel)
    model.save(space.output / SIMULATED)
    return ClimbRecord(tuple(rungs))
