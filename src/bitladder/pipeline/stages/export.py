"""Write the files of a cell, from the network with the biases that they hold."""

from __future__ import annotations

from dataclasses import asdict, replace

from bitladder import deploy, dlc, targets
from bitladder.options import ExportOptions, ModelOptions, TaskOptions, told
from bitladder.pipeline.planning import Stage
from bitladder.pipeline.stage_records import ClimbRecord, ExportRecord, TrainRecord, read_record
from bitladder.pipeline.stages.common import (
    QUANTIZED,
    Workspace,
    images_of,
    ladder_of,
    normalization_of,
    recipe_of,
    simulated_network,
    takes_bytes,
)
from bitladder.rungs import Rung
from bitladder.saved_network import save_quantized
from bitladder.target_specs import known


def export(stage: Stage, space: Workspace) -> ExportRecord:
    """Write the ONNX files, the encodings, the saved network and whatever else was asked for."""
    ladder, simulated = ladder_of(stage, space), simulated_network(stage, space)
    description = _described(stage, space)
    traced, output = ladder.round_biases(simulated, description), space.output
    options = ExportOptions.model_validate(stage.spec["export"])
    artifact, own = output / "model.onnx", output / known()["htp"].dialect.file
    floats = output / "float.onnx"
    traced.write_float(floats, output / "encodings.json", version=options.encodings)
    for spec in {spec.dialect.file: spec for spec in reversed(known().values())}.values():
        weights = options.weights if options.weights in spec.dialect.weights else "int8"
        traced.write_qdq(
            output / spec.dialect.file, target=spec, weights=weights, image_input=options.input
        )
    save_quantized(
        simulated,
        output / QUANTIZED,
        recipe=(*recipe_of(stage, "recipe"), *recipe_of(stage, "rest")),
        seed=stage.spec["seed"],
        task=TaskOptions.model_validate(stage.spec["task"]).name,
        model=ModelOptions.model_validate(stage.spec["model"]),
        classes=images_of(stage, space).classes,
        rungs=(*_before(stage, space), *ladder.rungs),
        normalization=normalization_of(stage),
        pixels=takes_bytes(stage),
    )
    measured = asdict(deploy.sizes(simulated, artifact))
    sizes = {name.removesuffix("_bytes"): size for name, size in measured.items()}
    differences: tuple[str, ...] = ()
    if options.dlc:
        targets.write_dlc(floats, output / "float.dlc")
        targets.write_dlc(own, output / "model.dlc")
        sizes["dlc"] = (output / "model.dlc").stat().st_size
        differences = tuple(dlc.differences(dlc.read(output / "model.dlc"), own))
    if options.context is not None:
        binary = targets.write_context(own, output / "context.onnx", options.context)
        sizes["context"] = binary.stat().st_size
    takes = replace(description, input=options.input).lines()
    return ExportRecord(tuple(ladder.rungs), sizes, differences, tuple(takes))


def _described(stage: Stage, space: Workspace) -> deploy.Description:
    """What the files say of the images that they take."""
    images, normalization = images_of(stage, space), normalization_of(stage)
    dataset = {key: value for key, value in stage.spec["dataset"].items() if key != "name"}
    return deploy.Description(
        shapes=images.shapes,
        pixels=bool(images.preparation),
        normalization=told(normalization),
        task=TaskOptions.model_validate(stage.spec["task"]).name,
        classes=images.class_names,
        images=images.preparation,
        dataset=dataset,
        seed=stage.spec["seed"],
        fingerprint=images.fingerprint,
    )


def _before(stage: Stage, space: Workspace) -> list[Rung]:
    """The rungs that the stages before reached, the float network first."""
    found: list[Rung] = []
    for role, kind in (("float", TrainRecord), ("quantized", ClimbRecord), ("tuned", ClimbRecord)):
        if role in stage.inputs:
            record = read_record(space.input(stage, role), kind)
            assert isinstance(record, TrainRecord | ClimbRecord)
            found += record.rungs
    return found
