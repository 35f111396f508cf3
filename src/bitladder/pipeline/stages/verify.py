"""Run the file on a target and compare it with the simulation."""

from __future__ import annotations

from dataclasses import asdict

import torch

from bitladder import deploy, targets
from bitladder.options import InputType, TargetOptions
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import FirstLayer, Speed, VerifyRecord
from bitladder.pipeline.stages.common import (
    EVALUATION_BATCH,
    Workspace,
    first_of,
    pixels_of,
    simulated_network,
    takes_bytes,
    task_of,
)
from bitladder.target_specs.record import loaded
from bitladder.verification import verify as verify_file

_TIMED_BATCH = 64


def verify(stage: Stage, space: Workspace) -> VerifyRecord:
    """Measure on the target's images."""
    options, task = TargetOptions.model_validate(stage.spec["target"]), task_of(stage)
    spec, artifact = options.spec, space.input(stage, "artifact") / "model.onnx"
    simulated = simulated_network(stage, space)
    own = artifact.with_name(spec.dialect.file)
    if not own.is_file():  # of a form that no known target reads
        own = space.output / spec.dialect.file
        form: InputType = "uint8" if takes_bytes(stage) else "float"
        deploy.Traced(simulated).write_qdq(own, target=spec, image_input=form)
    batches = pixels_of(stage, space).validation.batches(EVALUATION_BATCH)
    found = verify_file(
        own,
        batches,
        task=task,
        target=spec,
        version=options.version,
        simulation=simulated,
        integer=artifact,
        limit=options.images,
        threads=torch.get_num_threads(),
        progress=False,
    )
    speeds = None
    if spec.timed:
        files = {"quantized": artifact, "float": artifact.with_name("float.onnx")}
        inputs, _ = first_of(batches, _TIMED_BATCH, task)
        arrays = [one.contiguous().numpy() for one in inputs]
        speeds = {
            name: Speed(**asdict(one))
            for name, one in targets.speeds(
                files, *arrays, target=spec, version=options.version
            ).items()
        }
    layer = found.first_layer
    first = None if layer is None else FirstLayer(layer.name, str(layer.worst), layer.share)
    return VerifyRecord(
        target=options.label,
        comparison=found.comparison,
        notes=(*found.notes, *targets.containers(spec, simulated.precision)),
        saturation=found.saturation,
        first_layer=first,
        file_bytes=loaded(spec.file_size)(own) if spec.file_size else own.stat().st_size,
        speeds=speeds,
    )
