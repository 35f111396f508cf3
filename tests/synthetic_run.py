"""Run folders that no training made: cells with records of every kind, written as a run writes."""

import functools
import math
import random
from dataclasses import replace

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from bitladder.measurement import average, proportion
from bitladder.models.size import NetworkSize
from bitladder.pipeline import kinds
from bitladder.pipeline.cell_result import CellResult
from bitladder.pipeline.names import labels
from bitladder.pipeline.planning import build, fingerprint_name
from bitladder.pipeline.results import Results
from bitladder.pipeline.stage_records import (
    ClimbRecord,
    ExplainRecord,
    ExportRecord,
    FirstLayer,
    QuantizerCost,
    Speed,
    TrainRecord,
    VerifyRecord,
)
from bitladder.rungs import Rung
from bitladder.study import Study
from bitladder.targets.comparison import Beside, Comparison

HOSTILE = "<script>alert(1)</script> \"quoted\" 'single' </script> & |pipe| `tick`"
NOTE = "kmnist: split from its test images; not comparable"
FAILED = ("mnist", "mobilenet_v2", "w4a4", "finetune: training ended at chance level; train longer")
STUDY = {
    "name": "synthetic",
    "datasets": ["mnist", "fashion_mnist"],
    "models": ["resnet18", "mobilenet_v2"],
    "precisions": [8, 6, 4],
    "recipe": [{"calibrate": {"method": "mse"}}, "finetune", "reestimate_batch_norm"],
    "verify": ["onnxruntime", {"htp": {"images": 200}}],
    "explain": {"images": 500},
}
IMAGES = 5000
CLASSES = 10
SCORED = 300  # images of a run whose quality is a mean
LOSSES = {8: 0.001, 6: 0.004, 4: 0.016}  # of the fine-tuned network, by bits
_PARAMETERS = {"resnet18": 11_181_645, "mobilenet_v2": 2_236_682}


@functools.cache
def accuracy(right, images=IMAGES):
    """That of a network that is right on so many of 5,000 images, on the first of them."""
    count = round(right * images / IMAGES)
    found = proportion("accuracy", [index < count for index in range(images)])
    truth = tuple(index % CLASSES for index in range(images))
    answers = (
        label if index < count else (label + 1) % CLASSES for index, label in enumerate(truth)
    )
    return replace(found, truth=truth, answers=tuple(answers))


@functools.cache
def psnr(right, images=IMAGES):
    """A quality in dB: 0.1 dB for each percent of ``right``."""
    return _mean("PSNR", 20 + 10 * right / IMAGES, 2.0, right, images, unit="dB")


@functools.cache
def error(right, images=IMAGES):
    """A quality without a unit, of which less is better."""
    return _mean(
        "error", 0.02 * (1.5 - right / IMAGES), 0.002, right, images, higher_is_better=False
    )


def _mean(name, value, spread, seed, images, **options):
    """A mean of scores: images differ a lot, networks on one image a little."""
    count = SCORED if images == IMAGES else images // 2
    each = np.random.default_rng(0).normal(0, spread, SCORED)[:count]
    own = np.random.default_rng(seed).normal(0, 0.05 * spread, count)
    scores = each + own
    return average(name, value + scores - scores.mean(), **options)


def write_run(folder, *, measured=accuracy, curves=True, failed=(), **changes):
    """Write a run of a study with ``changes``, as ``Results.write`` does, and return the results.

    Args:
        folder: the run's folder; the logs of training go below it.
        measured: ``accuracy``, ``psnr`` or ``error``: the quality of the run.
        curves: whether there are logs of training.
        failed: (data set, model, precision, reason) of cells that failed.
        changes: keys of the study.
    """
    study = Study.model_validate({k: v for k, v in {**STUDY, **changes}.items() if v is not None})
    reasons = {place[:3]: place[3] for place in failed}
    chance = random.Random(1)
    cells = []
    names = {
        fingerprint_name(study, label, seed): "not read"
        for label in labels(study.datasets)
        for seed in study.every_seed
    }
    for cell in build(study, names, test=()):
        place = (cell.dataset.name, cell.model.name, str(cell.precision))
        if place in reasons:
            cells.append(CellResult(cell, {}, {}, reasons[place]))
            continue
        folders = {}
        if curves:
            folders = {
                stage.key: folder / "stages" / stage.key
                for stage in cell.stages
                if stage.kind.trains
            }
            tuned = cell.stage(kinds.FINETUNE)
            if tuned is not None:
                _log(folders[tuned.key] / "tensorboard", cell.precision.weights)
        cells.append(CellResult(cell, _records(cell, chance, measured), folders, None))
    results = Results(study, tuple(cells), folder)
    results.write()
    return results


def _records(cell, chance, measured):
    bits, harder = cell.precision.weights, cell.dataset.name != "mnist"
    large = cell.model.name == "resnet18"
    trained = round(IMAGES * (0.905 if harder else 0.985) - (0 if large else 60))
    lost = round(IMAGES * LOSSES.get(bits, 0.001) * (1 if large else 1.6))
    parameters = _PARAMETERS.get(cell.model.name, 400_000)
    notes = (NOTE,) if cell.dataset.name == "kmnist" else ()

    def rung(technique, right, seconds):
        return Rung(technique, measured(right), seconds=seconds)

    made = {
        kinds.TRAIN: TrainRecord(
            (rung("float", trained, 190.0),),
            NetworkSize(cell.model.name, parameters, 4e-6 * parameters, 37_019_648),
            notes,
            history=tuple(_history(430, chance)),
            seconds=190.0,
        ),
        kinds.QUANTIZE: ClimbRecord((rung("calibrate", trained - 3 * lost, 20.0),), 21.0),
        kinds.EXPLAIN: ExplainRecord(tuple(_quantizers(bits, chance, measured)), 12.0),
        kinds.FINETUNE: ClimbRecord(
            (
                rung("finetune", trained - lost - 4, 150.0),
                rung("reestimate_batch_norm", trained - lost, 150.0),
            ),
            160.0,
        ),
        kinds.EXPORT: ExportRecord(
            (rung("integer_biases", trained - lost, 0.0),),
            {"float": 4 * parameters, "packed": parameters * bits // 8, "file": parameters},
            seconds=4.0,
        ),
    }
    agree = round(IMAGES * (0.999 - 0.001 * (8 - bits)))
    verified = {
        "onnxruntime": _verified("onnxruntime", IMAGES, measured(trained - lost), agree),
        "htp": _verified("htp", 200, measured(4575, 200), 200 if bits == 8 else 196, bits),
    }
    return {
        stage.key: (
            verified[stage.spec["target"]["name"]]
            if stage.kind is kinds.VERIFY
            else made[stage.kind]
        )
        for stage in cell.stages
    }


def _verified(target, images, quality, agree, bits=8):
    exact = proportion("equal", [True] * images)
    agreement = proportion("agreement", [index < agree for index in range(images)])
    comparison = Comparison(
        quality=quality,
        simulation=quality,
        agreement=agreement,
        equal=agreement,
        worst_lsb=2.0,
        mean_lsb=0.07,
        sqnr={"logits": 41.0},
        seconds=1.5,
        integer=Beside(quality, agreement, exact, 0.0),
    )
    return VerifyRecord(
        target,
        comparison,
        (f"{bits}-bit weights in a 8-bit container",) if bits != 8 else (),
        first_layer=FirstLayer("/conv1/Conv", "1 step", 0.02),
        speeds={"quantized": Speed(1.25, 900.0), "float": Speed(2.5, 450.0)},
        seconds=50.0,
    )


def _history(steps, chance):
    for step in range(10, steps + 1, 10):
        loss = 2 * math.exp(-step / 90) + 0.3 + 0.05 * chance.random()
        row = {"step": step, "epoch": step // 216, "train_loss": loss}
        yield {**row, "train_quality": 1 - loss / 3, "lr": 1e-3}
        if step % 110 == 0:
            yield {"step": step, "val_loss": loss + 0.1, "val_quality": 0.95 - loss / 3, "lr": 1e-3}


def finetuning_history(bits):
    """What is logged while a cell of ``bits`` is fine-tuned."""
    return list(_history(210, random.Random(bits)))


def _log(folder, bits):
    with SummaryWriter(str(folder)) as writer:
        for row in finetuning_history(bits):
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    writer.add_scalar(name, value, row["step"])


def _quantizers(bits, chance, measured):
    for index in range(24):
        for kind in ("weight", "output"):
            sqnr = 6.02 * bits - 8 + 0.5 * index + 4 * chance.random()
            yield QuantizerCost(
                layer=f"features.{index}.conv.{index % 3}",
                kind=kind,
                bits=bits,
                sqnr=sqnr,
                agreement=1 - 0.1 / (index + 1),
                quality=measured(4500 - 20 * (24 - index) // bits, 500),
                own_sqnr=sqnr + 3,
                lowest=(-1.5,),
                highest=(2.5,),
            )
