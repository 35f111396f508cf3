"""Train the float network, from its weights if it has any, or take these as they are."""

from __future__ import annotations

import shutil

from bitladder import models, training
from bitladder.models.names import is_onnx_file
from bitladder.options import ModelOptions, TrainOptions
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.pretrained import check_weights
from bitladder.pipeline.stage_records import TrainRecord
from bitladder.pipeline.stages.common import (
    EVALUATION_BATCH,
    Workspace,
    images_of,
    network_of,
    task_of,
)
from bitladder.rungs import FLOAT, Rung


def train(stage: Stage, space: Workspace) -> TrainRecord:
    """Write ``weights.safetensors``, and TensorBoard logs where it was trained here."""
    check_weights(stage.spec["model"]["name"], stage.spec["pretrained"])
    images, model, task = images_of(stage, space), network_of(stage, space), task_of(stage)
    network = ModelOptions.model_validate(stage.spec["model"])
    options = TrainOptions.model_validate(stage.spec["train"])
    goes_on = options.start == "weights"
    fitted, notes = None, images.notes
    if network.weights is not None:
        said = models.load_weights(
            model, network.weights, key=network.weights_key, new_head=goes_on
        )
        notes = (*notes, f"weights from {said}")
    if goes_on or (network.weights is None and not is_onnx_file(network.name)):
        fitted = training.fit(
            model,
            images.train,
            images.validation,
            options,
            task,
            seed=stage.spec["seed"],
            log_dir=space.logs(stage),
            checkpoint=space.store.scratch(stage.key) / "epoch.ckpt",
            report=space.report,
            classes=images.classes,
        )
        shutil.move(space.logs(stage), space.output)
    models.save_weights(model, space.output / "weights.safetensors")
    quality = training.evaluate(model, images.validation.batches(EVALUATION_BATCH), task)
    seconds = 0.0 if fitted is None else round(fitted.seconds, 3)
    return TrainRecord(
        rungs=(Rung(FLOAT, quality, seconds=seconds),),
        size=models.summarize(network.name, model, images.shapes),
        notes=notes,
        epochs=0 if fitted is None else fitted.epochs,
        steps=0 if fitted is None else fitted.steps,
        lr=None if fitted is None else fitted.lr,
        history=() if fitted is None else tuple(fitted.history),
    )
