"""LiteRT against its own integer arithmetic, and against ONNX Runtime's, on three networks.

Writes ``results/litert/networks.csv``, a row a network, precision and set of kernels: images, the
share of them that equal LiteRT's integer arithmetic in every logit with the worst LSB, the same
against ONNX Runtime's, and the file's bytes. Weights are random, batch norms have seen images, and
images are the embedded Fashion-MNIST: what is measured is arithmetic.

    python scripts/measure_litert.py --images 2000
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from bitladder import data, models, quantize
from bitladder.deploy.litert import read_tflite, write_tflite
from bitladder.options import DatasetOptions, LoaderOptions, ModelOptions
from bitladder.targets import integer_session
from bitladder.targets.litert import LitertIntegerSession, LitertSession

NETWORKS = ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5")
PRECISIONS = ("w8a8", "w4a8", "w4a4", "w8a16")
KERNELS = ("xnnpack", "reference")
BATCH = 100
COLUMNS = (
    "model precision kernels images equal worst_lsb onnxruntime_equal onnxruntime_worst_lsb bytes"
)


def main() -> None:
    """Measure all, and write each row as it is found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--networks", nargs="+", default=NETWORKS)
    options.add_argument("--precisions", nargs="+", default=PRECISIONS)
    options.add_argument("--output", type=Path, default=Path("results/litert/networks.csv"))
    given = options.parse_args()
    images = _images(given.images)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    with given.output.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS.split())
        for name in given.networks:
            network = _network(name, images[:256])
            for precision in given.precisions:
                for row in _measured(network, precision, images):
                    rows.writerow([name, precision, *row])
                    file.flush()


def _images(count):
    """Embedded images, (N, 1, 28, 28) float32 in 0 to 1."""
    found = data.load(DatasetOptions(name="embedded"), LoaderOptions(), seed=0)
    batches = []
    for batch, _ in found.train.batches(BATCH):
        batches.append(batch)
        if sum(map(len, batches)) >= count:
            break
    return torch.cat(batches)[:count]


def _network(name, images):
    torch.manual_seed(0)
    made = models.build(ModelOptions(name=name), classes=10, shapes=[images.shape[1:]], seed=1)
    made.train()
    with torch.no_grad():
        for part in images.split(64):  # statistics that keep activations alive
            made(part)
    return made.eval()


def _measured(network, precision, images):
    calibrate = {"method": "min_max"}
    if precision.endswith("a16"):
        calibrate["targets"] = ["litert"]
    quantized = quantize(
        network, images[:256], precision, ["fold_batch_norm", {"calibrate": calibrate}]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = quantized.export(Path(folder) / "model.onnx")
        tflite = path.with_suffix(".tflite")
        write_tflite(onnx.load(path), tflite)
        for kernels in KERNELS:
            yield kernels, len(images), *_compared(path, tflite, kernels, images)


def _compared(path, tflite, kernels, images):
    session = LitertSession(tflite, kernels=kernels, threads=1)
    others = LitertIntegerSession(tflite, kernels=kernels), integer_session(path)
    [step] = session.steps.values()
    equal, worst = np.zeros(2), np.zeros(2)
    for batch in images.split(BATCH):
        [found] = session.run(batch.numpy()).values()
        for i, other in enumerate(others):
            [wanted] = other.run(batch.numpy()).values()
            equal[i] += (found == wanted).all(1).sum()
            worst[i] = max(worst[i], np.abs(found - wanted).max() / step)
    shares = equal / len(images)
    size = read_tflite(tflite).file_bytes
    return shares[0], round(worst[0]), shares[1], round(worst[1]), size


if __name__ == "__main__":
    main()
