"""Run folders that no training made: cells with records of every kind, written as a run writes."""

import math
import random

from torch.utils.tensorboard import SummaryWriter

from bitladder.pipeline.graph import build
from bitladder.pipeline.names import labels
from bitladder.pipeline.results import CellResult, Results
from bitladder.study import Study

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
LOSSES = {8: 0.001, 6: 0.004, 4: 0.016}  # of the fine-tuned network, by bits
_PARAMETERS = {"resnet18": 11_181_645, "mobilenet_v2": 2_236_682}


def write_run(folder, *, curves=True, failed=(), **changes):
    """Write a run of a study with ``changes``, as ``Results.write`` does, and return the results.

    Args:
        folder: the run's folder; the logs of fine-tuning go below it.
        curves: whether there are logs of training.
        failed: (data set, model, precision, reason) of cells that failed.
        changes: keys of the study.
    """
    study = Study.model_validate({**STUDY, **changes})
    reasons = {place[:3]: place[3] for place in failed}
    chance = random.Random(1)
    cells = []
    names = dict.fromkeys(labels(study.datasets), "not read")
    for cell in build(study, names, test=()):
        place = (cell.dataset.name, cell.model.name, str(cell.precision))
        if place in reasons:
            cells.append(CellResult(cell, {}, {}, {}, reasons[place]))
            continue
        folders = {}
        if curves:
            folders["train"] = folder / "stages" / cell.stages[0].key
            folders["finetune"] = folder / "stages" / str(len(cells))
            _log(folders["finetune"] / "tensorboard", cell.precision.weights)
        records, verified = _records(cell, chance)
        cells.append(CellResult(cell, records, verified, folders, None))
    results = Results(study, tuple(cells), folder)
    results.write()
    return results


def _records(cell, chance):
    bits, harder = cell.precision.weights, cell.dataset.name != "mnist"
    large = cell.model.name == "resnet18"
    trained = round(IMAGES * (0.905 if harder else 0.985) - (0 if large else 60))
    lost = round(IMAGES * LOSSES.get(bits, 0.001) * (1 if large else 1.6))
    start = trained - lost * 3
    tuned = [("finetune", trained - lost - 4), ("reestimate_batch_norm", trained - lost)]
    parameters = _PARAMETERS.get(cell.model.name, 400_000)
    sizes = {
        "float_bytes": 4 * parameters,
        "packed_bytes": parameters * bits // 8,
        "file_bytes": parameters,
    }
    records = {
        "train": {
            "rungs": [_rung("float", trained, 190)],
            "seconds": 190.0,
            "notes": [NOTE] if cell.dataset.name == "kmnist" else [],
            "summary": {"parameters": parameters, "macs": 37_019_648},
            "history": list(_history(430, chance)),
        },
        "quantize": {"rungs": [_rung("calibrate", start, 20)], "seconds": 21.0},
        "explain": {"quantizers": list(_quantizers(bits, chance)), "seconds": 12.0},
        "finetune": {"rungs": [_rung(name, right, 150) for name, right in tuned], "seconds": 160.0},
        "export": {"sizes": sizes, "seconds": 4.0},
        "verify": {"seconds": 50.0},
    }
    kinds = {stage.kind for stage in cell.stages}
    verified = {
        "onnxruntime": _verified(
            IMAGES, trained - lost, round(IMAGES * (0.999 - 0.001 * (8 - bits)))
        ),
        "htp": _verified(200, 183, 200 if bits == 8 else 196),
    }
    if bits != 8:
        verified["htp"]["fallbacks"] = [f"{bits}-bit weights in a 8-bit container"]
    return {kind: record for kind, record in records.items() if kind in kinds}, verified


def _rung(technique, correct, seconds):
    accuracy = {"correct": correct, "total": IMAGES}
    return {"technique": technique, "accuracy": accuracy, "seconds": seconds, "notes": []}


def _verified(images, correct, agree):
    count = {"total": images}
    return {
        "comparison": {
            "accuracy": {"correct": correct, **count},
            "simulation": {"correct": correct, **count},
            "agreement": {"correct": agree, **count},
            "worst_lsb": 2.0,
            "mean_lsb": 0.07,
            "seconds": 1.5,
            "integer": {"correct": correct, **count},
            "integer_equal": {"correct": images, **count},
            "integer_worst_lsb": 0.0,
        },
        "speeds": {
            "quantized": {"latency_ms": 1.25, "images_per_second": 900.0},
            "float": {"latency_ms": 2.5, "images_per_second": 450.0},
        },
        "fallbacks": [],
        "first_layer": {"name": "/conv1/Conv", "worst": 1, "share": 0.02},
    }


def _history(steps, chance):
    for step in range(10, steps + 1, 10):
        loss = 2 * math.exp(-step / 90) + 0.3 + 0.05 * chance.random()
        row = {"step": step, "epoch": step // 216, "train_loss": loss, "train_acc": 1 - loss / 3}
        yield {**row, "lr": 1e-3}
        if step % 110 == 0:
            yield {"step": step, "val_loss": loss + 0.1, "val_acc": 0.95 - loss / 3, "lr": 1e-3}


def finetuning_history(bits):
    """What is logged while a cell of ``bits`` is fine-tuned."""
    return list(_history(210, random.Random(bits)))


def _log(folder, bits):
    with SummaryWriter(str(folder)) as writer:
        for row in finetuning_history(bits):
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    writer.add_scalar(name, value, row["step"])


def _quantizers(bits, chance):
    for index in range(24):
        for kind in ("weight", "output"):
            sqnr = 6.02 * bits - 8 + 0.5 * index + 4 * chance.random()
            yield {
                "name": f"features.{index}.conv.{index % 3}",
                "kind": kind,
                "bits": bits,
                "sqnr": sqnr,
                "agreement": 1 - 0.1 / (index + 1),
                "accuracy": {"correct": 450 - 2 * (24 - index) // bits, "total": 500},
                "own_sqnr": sqnr + 3,
                "lowest": [-1.5],
                "highest": [2.5],
            }
