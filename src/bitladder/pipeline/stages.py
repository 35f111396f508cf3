"""What each stage does: read its inputs from the store, call the rooms, write files and JSON."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bitladder import data, deploy, dlc, models, simulation, targets, techniques, training
from bitladder.accuracy import Accuracy
from bitladder.errors import StoreError
from bitladder.options import (
    DatasetOptions,
    ExportOptions,
    LoaderOptions,
    ModelOptions,
    Precision,
    TargetOptions,
    Technique,
    TrainOptions,
    calibration_count,
    parse_techniques,
)
from bitladder.pipeline.datasets import load_known
from bitladder.pipeline.given import check, check_loaded
from bitladder.pipeline.graph import Stage
from bitladder.pipeline.pretrained import check_weights
from bitladder.progress import Progress
from bitladder.quantized import save_quantized
from bitladder.simulation import WeightedLayer
from bitladder.techniques.pairs import rows
from bitladder.verification import verify

if TYPE_CHECKING:
    from bitladder.store import Store

_EVALUATION_BATCH = 250  # images; accuracies do not depend on it
_TIMED_BATCH = 64
_SIMULATED, _QUANTIZED = "simulated.safetensors", "quantized.safetensors"
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Bench:
    """What a stage works with that does not determine its output.

    Attributes:
        store: where the outputs of other stages are.
        loader: where data sets are found.
        report: called with the progress of training.
    """

    store: Store
    loader: LoaderOptions
    report: Report | None = None

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


def perform(stage: Stage, bench: Bench, output: Path) -> None:
    """Run one stage and write its files into the empty folder ``output``."""
    started = time.perf_counter()
    # Of an attempt that was broken off; training that goes on from it writes its curves again.
    shutil.rmtree(bench.logs(stage), ignore_errors=True)
    sources = check(stage.given)
    record = _STAGES[stage.kind](stage, bench, output)
    check_loaded(sources)
    record["seconds"] = round(time.perf_counter() - started, 3)
    (output / "record.json").write_text(json.dumps(record, indent=1))


def _train(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    check_weights(stage.spec["model"]["name"], stage.spec["pretrained"])
    images, model = _data(stage, bench), _network(stage, bench)
    record: dict[str, Any] = {"history": []}
    weights = stage.spec["model"]["weights"]
    if weights is not None:
        models.load_weights(model, Path(weights))
    else:
        result = training.fit(
            model,
            images.train,
            images.validation,
            TrainOptions.model_validate(stage.spec["train"]),
            seed=stage.spec["seed"],
            log_dir=bench.logs(stage),
            checkpoint=bench.store.scratch(stage.key) / "epoch.ckpt",
            report=bench.report,
            classes=images.classes,
        )
        shutil.move(bench.logs(stage), output)
        record = asdict(result)
    models.save_weights(model, output / "weights.safetensors")
    accuracy = training.evaluate(model, images.validation.batches(_EVALUATION_BATCH))
    summary = models.summarize(stage.spec["model"]["name"], model, images.shape)
    rung = _rung("float", accuracy, record.get("seconds", 0.0), [])
    return {**record, "rungs": [rung], "summary": asdict(summary), "notes": list(images.notes)}


def _quantize(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    context = _context(stage, bench)
    model: nn.Module = context.reference
    model, rungs = _climb(stage, bench, _recipe(stage, "recipe"), model, context)
    assert isinstance(model, simulation.SimulatedModel)
    model.save(output / _SIMULATED)
    return {"rungs": rungs}


def _explain(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    simulated = _simulated(stage, bench)
    batches = _data(stage, bench).validation.batches(_EVALUATION_BATCH)
    images, labels = _first(batches, stage.spec["images"])
    own = {(row.name, row.kind): row for row in simulation.layers(simulated, images)}
    return {
        "quantizers": [
            {
                **asdict(row),
                "own_sqnr": own[row.name, row.kind].sqnr,
                "lowest": own[row.name, row.kind].lowest,
                "highest": own[row.name, row.kind].highest,
                **_channel_ranges(simulated, row),
            }
            for row in simulation.sensitivity(simulated, images, labels)
        ]
    }


def _channel_ranges(
    simulated: simulation.SimulatedModel, row: simulation.Sensitivity
) -> dict[str, list[float]]:
    """Smallest and largest weight of each output channel, whatever the quantizer's ranges."""
    if row.kind != "weight":
        return {}
    layer = simulated.module.get_submodule(row.name)
    assert isinstance(layer, WeightedLayer)
    weights = rows(layer).detach().flatten(1)
    return {
        "channel_lowest": weights.amin(1).tolist(),
        "channel_highest": weights.amax(1).tolist(),
    }


def _first(batches: data.Batches, wanted: int) -> tuple[Tensor, Tensor]:
    """The first labelled images of a split."""
    found: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        found.append(batch)
        if sum(len(labels) for _, labels in found) >= wanted:
            break
    images, labels = (torch.cat(part)[:wanted] for part in zip(*found, strict=True))
    return images, labels


def _finetune(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    images = _data(stage, bench)
    context = _context(stage, bench)
    context.training = techniques.TrainingData(
        train=images.train,
        validation=images.validation,
        classes=images.classes,
        log_dir=bench.logs(stage),
        report=bench.report,
    )
    model: nn.Module = _simulated(stage, bench)
    model, rungs = _climb(stage, bench, _recipe(stage, "rest"), model, context)
    shutil.move(bench.logs(stage), output)
    assert isinstance(model, simulation.SimulatedModel)
    model.save(output / _SIMULATED)
    return {"rungs": rungs}


def _export(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    simulated, images = _simulated(stage, bench), _data(stage, bench)
    started = time.perf_counter()
    traced = deploy.Traced(simulated)
    notes = [traced.quantize_biases()]
    seconds = time.perf_counter() - started
    accuracy = training.evaluate(simulated, images.validation.batches(_EVALUATION_BATCH))
    rung = _rung(deploy.INTEGER_BIASES, accuracy, seconds, notes)
    options = ExportOptions.model_validate(stage.spec["export"])
    artifact, own = output / "model.onnx", output / "model.htp.onnx"
    floats = output / "float.onnx"
    traced.write_float(floats, output / "encodings.json", version=options.encodings)
    traced.write_qdq(artifact, weights=options.weights)
    traced.write_qdq(own, target="htp")
    save_quantized(
        simulated,
        output / _QUANTIZED,
        recipe=(*_recipe(stage, "recipe"), *_recipe(stage, "rest")),
        seed=stage.spec["seed"],
        model=ModelOptions.model_validate(stage.spec["model"]),
        classes=images.classes,
    )
    sizes = asdict(deploy.sizes(simulated, artifact))
    record: dict[str, Any] = {"rungs": [rung], "sizes": sizes}
    if options.dlc:
        targets.write_dlc(floats, output / "float.dlc")
        targets.write_dlc(own, output / "model.dlc")
        record["dlc_bytes"] = (output / "model.dlc").stat().st_size
        record["dlc_differences"] = dlc.differences(dlc.read(output / "model.dlc"), own)
    if options.context is not None:
        binary = targets.write_context(own, output / "context.onnx", options.context)
        record["context_bytes"] = binary.stat().st_size
    return record


def _verify(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    options = TargetOptions.model_validate(stage.spec["target"])
    artifact = bench.input(stage, "artifact") / "model.onnx"
    own = artifact.with_name("model.htp.onnx") if options.name == "htp" else artifact
    simulated = _simulated(stage, bench)
    batches = _data(stage, bench).validation.batches(_EVALUATION_BATCH)
    found = verify(
        own,
        batches,
        target=options.name,
        version=options.version,
        simulation=simulated,
        integer=artifact,
        limit=options.images,
        threads=torch.get_num_threads(),
    )
    speeds = {}
    if options.name == "onnxruntime":
        files = {"quantized": artifact, "float": artifact.with_name("float.onnx")}
        images = _first(batches, _TIMED_BATCH)[0].contiguous().numpy()
        speeds = {name: asdict(one) for name, one in targets.speeds(files, images).items()}
    return {
        "speeds": speeds,
        "comparison": asdict(found.comparison),
        "fallbacks": [*found.notes, *targets.containers(options.name, simulated.precision)],
        "saturation": found.saturation,
        "first_layer": found.first_layer and asdict(found.first_layer),
    }


def _test(stage: Stage, bench: Bench, output: Path) -> dict[str, Any]:
    images = _data(stage, bench)
    assert images.test is not None
    batches = images.test.batches(_EVALUATION_BATCH)
    found = {
        "float": training.evaluate(_float(stage, bench), batches),
        "simulated": training.evaluate(_simulated(stage, bench), batches),
    }
    return {name: asdict(accuracy) for name, accuracy in found.items()}


_STAGES: Mapping[str, Callable[[Stage, Bench, Path], dict[str, Any]]] = {
    "train": _train,
    "quantize": _quantize,
    "explain": _explain,
    "finetune": _finetune,
    "export": _export,
    "verify": _verify,
    "test": _test,
}


def _climb(
    stage: Stage,
    bench: Bench,
    recipe: tuple[Technique, ...],
    model: nn.Module,
    context: techniques.Context,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Apply techniques one after the other and measure the rung that each one reaches."""
    validation = _data(stage, bench).validation
    rungs = []
    for index, technique in enumerate(recipe):
        context.notes = []
        if context.training is not None:  # each training goes on from a checkpoint of its own
            checkpoint = bench.store.scratch(stage.key) / f"{index}.ckpt"
            context.training = replace(context.training, checkpoint=checkpoint)
        started = time.perf_counter()
        model = techniques.apply(technique, model, context)
        seconds = time.perf_counter() - started
        accuracy = training.evaluate(model, validation.batches(_EVALUATION_BATCH))
        rungs.append(_rung(technique.name, accuracy, seconds, context.notes))
    return model, rungs


def _rung(technique: str, accuracy: Accuracy, seconds: float, notes: list[str]) -> dict[str, Any]:
    return {
        "technique": technique,
        "accuracy": asdict(accuracy),
        "seconds": round(seconds, 3),
        "notes": notes,
    }


def _recipe(stage: Stage, part: str) -> tuple[Technique, ...]:
    return parse_techniques(stage.spec.get(part, ()))


def _data(stage: Stage, bench: Bench) -> data.ImageData:
    options = DatasetOptions.model_validate(stage.spec["dataset"])
    known = stage.spec["fingerprint"], *sorted(stage.given.items())
    return _load(options, bench.loader, stage.spec["seed"], known)


@functools.lru_cache(maxsize=2)  # by what is known of the images and of the user's code
def _load(
    options: DatasetOptions, loader: LoaderOptions, seed: int, known: tuple[Any, ...]
) -> data.ImageData:
    return load_known(options, loader, seed, known[0])


def _network(stage: Stage, bench: Bench) -> nn.Module:
    images = _data(stage, bench)
    options = ModelOptions.model_validate(stage.spec["model"])
    return models.build(
        options, classes=images.classes, shape=images.shape, seed=stage.spec["seed"]
    )


def _float(stage: Stage, bench: Bench) -> nn.Module:
    """The trained float network, in evaluation mode."""
    model = _network(stage, bench)
    models.load_weights(model, bench.input(stage, "float") / "weights.safetensors")
    return model.eval()


def _context(stage: Stage, bench: Bench) -> techniques.Context:
    recipe = (*_recipe(stage, "recipe"), *_recipe(stage, "rest"))
    images = calibration_count(recipe)
    loaded = _data(stage, bench)
    return techniques.Context(
        precision=Precision.parse(stage.spec["precision"]),
        calibration=data.calibration_images(loaded, min(images, loaded.train.images)),
        reference=_float(stage, bench),
        integer_logits=targets.integer_logits,
        seed=stage.spec["seed"],
    )


def _simulated(stage: Stage, bench: Bench) -> simulation.SimulatedModel:
    """The simulated network of an earlier stage, with its weights and ranges.

    Where the stage has the files that were exported, it is the one that they were written from.
    """
    network = _network(stage, bench).eval()
    images = _data(stage, bench)
    context = techniques.Context(
        precision=Precision.parse(stage.spec["precision"]),
        calibration=data.calibration_images(images, 1),
        reference=network,
    )
    before = _recipe(stage, "recipe")
    trained = _recipe(stage, "rest") if stage.kind != "finetune" else ()
    model = techniques.rebuild((*before, *trained), network, context)
    assert isinstance(model, simulation.SimulatedModel)
    exported = "artifact" in stage.inputs
    role, name = ("artifact", _QUANTIZED) if exported else ("simulated", _SIMULATED)
    model.restore(bench.input(stage, role) / name)
    return model.eval()
