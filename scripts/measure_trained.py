"""Quantize networks that were trained, of other kinds than the report's too, and run their files.

python scripts/measure_trained.py [--only TEXT] [--steps N] [--page]

Writes results/coverage/trained.csv, a row a network and precision: the float network's quality,
that of its simulation and of its file in ONNX Runtime on the same images, and how far the file is
from the simulation, in steps of the outputs' grid at worst. What is there is not done again. Then
the table in docs/coverage.md, which --page writes alone. Small variants of networks learn the
embedded Fashion-MNIST at 32x32 pixels, the U-Net to find the digits of scikit-learn in a picture of
several; calibration takes other images than those that quality is measured on.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from pages import ROOT, filled, header, percent
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models import convnext, densenet, efficientnet

from bitladder import data, quantize, targets, tasks
from bitladder.options import DatasetOptions, LoaderOptions
from bitladder.structures import named

PAGE = ROOT / "docs" / "coverage.md"
RESULTS = ROOT / "results" / "coverage" / "trained.csv"
PRECISIONS = ("w8a8", "w4a8")
RECIPE = ("fold_batch_norm", {"calibrate": {"method": "mse"}}, "bias_correction")
FIELDS = ("network", "kind", "task", "parameters", "precision", "batch_norms", "batch_norms_left",
          "images", "float", "simulated", "onnxruntime", "equal_images", "worst_steps",
          "seconds")  # fmt: skip
_BATCH, _RATE, _CALIBRATION, _EVALUATION = 32, 2e-3, 256, 500
_SIDE = 32  # pixels
_Images = tuple[Tensor, Tensor]


def _resnet() -> nn.Module:
    return models.resnet18(num_classes=10)


def _mobilenet_v2() -> nn.Module:
    return models.mobilenet_v2(num_classes=10, width_mult=0.5)


def _shufflenet() -> nn.Module:
    return models.shufflenet_v2_x0_5(num_classes=10)


def _densenet() -> nn.Module:
    """Batch norms before convolutions, of which no layer before can take them."""
    return densenet.DenseNet(
        growth_rate=12, block_config=(3, 3, 3), num_init_features=24, num_classes=10
    )


def _mobilenet_v3() -> nn.Module:
    return models.mobilenet_v3_small(num_classes=10, width_mult=0.5)


def _efficientnet() -> nn.Module:
    sizes, channels = efficientnet._efficientnet_conf(
        "efficientnet_b0", width_mult=0.5, depth_mult=0.5
    )
    return efficientnet.EfficientNet(sizes, 0.0, num_classes=10, last_channel=channels)


def _convnext() -> nn.Module:
    sizes = [(24, 48, 2), (48, 96, 2), (96, None, 2)]
    blocks = [convnext.CNBlockConfig(*size) for size in sizes]
    return convnext.ConvNeXt(blocks, num_classes=10, layer_scale=1.0)


class UNet(nn.Module):
    """Two halvings with transposed convolutions back, and skips that are concatenated."""

    def __init__(self, classes: int = 11, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = _twice(3, width), _twice(width, 2 * width)
        self.middle = _twice(2 * width, 4 * width)
        self.wider = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.third = _twice(4 * width, 2 * width)
        self.widest = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.last = _twice(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of images (N, 3, H, W)."""
        first = self.first(x)
        second = self.second(functional.max_pool2d(first, 2))
        middle = self.middle(functional.max_pool2d(second, 2))
        third = self.third(torch.cat([self.wider(middle), second], 1))
        return self.head(self.last(torch.cat([self.widest(third), first], 1)))


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (inputs, outputs):
        layers += [nn.Conv2d(count, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "resnet18": ("the report's", _resnet),
    "mobilenet_v2": ("the report's", _mobilenet_v2),
    "shufflenet_v2_x0_5": ("the report's", _shufflenet),
    "densenet": ("dense, batch norms first", _densenet),
    "mobilenet_v3_small": ("squeeze and excitation, hard swish", _mobilenet_v3),
    "efficientnet": ("squeeze and excitation, SiLU", _efficientnet),
    "convnext": ("layer norms, GELU", _convnext),
    "unet": ("segmentation", UNet),
}


def main() -> None:
    """Do what is not done, and keep each row as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--steps", type=int, default=120, help="of training")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    for name in () if options.page else NETWORKS:
        done = {row["precision"] for row in read() if row["network"] == name}
        if options.only in name and not done.issuperset(PRECISIONS):
            rows = [row for row in read() if row["network"] != name]
            write([*rows, *measured(name, options.steps)])
    PAGE.write_text(page())


def read() -> list[dict[str, Any]]:
    """The rows that are there."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, Any]]) -> None:
    """Write the rows, in the order of the networks."""
    order = list(NETWORKS)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order.index(row["network"])))


def page() -> str:
    """The page's text with the table as the results have it."""
    return filled(PAGE, "measure_trained.py", lines())


def lines() -> Iterator[str]:
    """A line a network: its quality in float, simulated and as a file, in percent."""
    columns = [f"{one}: simulated, onnxruntime" for one in PRECISIONS]
    yield from header("network", "kind", "parameters", "batch norms, left", "float", *columns)
    rows = read()
    for name in dict.fromkeys(row["network"] for row in rows):
        own = {row["precision"]: row for row in rows if row["network"] == name}
        first = next(iter(own.values()))
        cells = [
            name, first["kind"], first["parameters"],
            f"{first['batch_norms']}, {first['batch_norms_left']}",
            percent(float(first["float"])), *(_cell(own.get(one)) for one in PRECISIONS),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not reached"
    both = f"{percent(float(row['simulated']))}, {percent(float(row['onnxruntime']))}"
    equal = f"{100 * float(row['equal_images']):.0f} % of images equal"
    return f"{both}; {equal}, {row['worst_steps']} steps at worst"


def measured(name: str, steps: int) -> list[dict[str, Any]]:
    """Train a network and measure it at every precision."""
    torch.manual_seed(0)
    kind, build = NETWORKS[name]
    task = "segmentation" if name == "unet" else "classification"
    training, calibration, evaluation = _digits() if name == "unet" else _clothes()
    started = time.process_time()
    model = _trained(build(), training, steps, name)
    before = {
        "network": name, "kind": kind, "task": task, "images": len(evaluation[0]),
        "parameters": sum(one.numel() for one in model.parameters()),
        "batch_norms": _batch_norms(model), "float": _quality(model, evaluation, task),
    }  # fmt: skip
    rows = []
    for precision in PRECISIONS:
        row = before | _quantized(model, calibration[0], evaluation, task, precision)
        rows.append(row | {"seconds": f"{time.process_time() - started:.0f}"})
        print(rows[-1], flush=True)
        started = time.process_time()
    return rows


def _quantized(
    model: nn.Module, calibration: Tensor, evaluation: _Images, task: str, precision: str
) -> dict[str, Any]:
    """What one precision makes of a network, by a recipe that takes seconds."""
    made = quantize(model, calibration, precision, RECIPE, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path = made.export(Path(folder) / "model.onnx")
        session = targets.open_target("onnxruntime", path, threads=1)
        parts = zip(evaluation[0].split(_BATCH), evaluation[1].split(_BATCH), strict=True)
        found = targets.compare(session, made, list(parts), tasks.find(task))
        session.close()
    assert found.quality is not None
    assert found.simulation is not None
    return {
        "precision": precision, "batch_norms_left": _batch_norms(made.simulated),
        "simulated": f"{found.simulation.value:.4f}", "onnxruntime": f"{found.quality.value:.4f}",
        "equal_images": f"{found.equal.value:.3f}", "worst_steps": f"{found.worst_lsb:.4g}",
    }  # fmt: skip


def _trained(model: nn.Module, images: _Images, steps: int, name: str) -> nn.Module:
    """AdamW with one cycle of the learning rate, from weights of chance."""
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for one in model.modules():
        if "BatchNorm" in type(one).__name__:
            one.momentum = 0.1  # some have 0.01, for which there are too few steps
    counts = torch.bincount(images[1].flatten()).float()
    weights = (counts.mean() / counts).sqrt() if name == "unet" else None  # most is background
    model.train()
    for step in range(steps):
        chosen = torch.randint(len(images[0]), (_BATCH,))
        loss = functional.cross_entropy(model(images[0][chosen]), images[1][chosen], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"{name}: step {step + 1}, loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def _quality(model: nn.Module, images: _Images, task: str) -> str:
    meter = tasks.find(task).meter()
    for given, wanted in zip(images[0].split(_BATCH), images[1].split(_BATCH), strict=True):
        meter.update(named(model(given)), wanted)
    return f"{meter.measurement().value:.4f}"


def _batch_norms(model: nn.Module) -> int:
    return sum("BatchNorm" in type(one).__name__ for one in model.modules())


def _clothes() -> tuple[_Images, _Images, _Images]:
    """Fashion-MNIST at 32x32 in three equal channels: to train, to calibrate, to evaluate."""
    found = data.load(DatasetOptions(name="embedded"), LoaderOptions(), seed=0)

    def whole(split: Any) -> _Images:
        parts = list(split.batches(_BATCH))
        images = torch.cat([part[0] for part in parts]).float()
        images = functional.pad(images, [2, 2, 2, 2]).expand(-1, 3, -1, -1).contiguous()
        return images, torch.cat([part[1] for part in parts])

    training, evaluation = whole(found.train), whole(found.validation)
    return _split(training, evaluation)


def _digits() -> tuple[_Images, _Images, _Images]:
    """Pictures (N, 3, 32, 32) of three digits of 8x8, and each pixel's digit + 1, or 0 for none."""
    digits = load_digits()
    shapes, names = torch.tensor(digits.images).float() / 16, torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)

    def drawn(first: int, last: int, count: int) -> _Images:
        images, wanted = (
            torch.zeros(count, 3, _SIDE, _SIDE),
            torch.zeros(count, _SIDE, _SIDE).long(),
        )
        for place in range(count):
            for which in torch.randint(first, last, (3,), generator=generator).tolist():
                top, left = torch.randint(0, _SIDE - 8, (2,), generator=generator).tolist()
                spot = (slice(top, top + 8), slice(left, left + 8))
                images[place][:, spot[0], spot[1]] = shapes[which]
                wanted[place][spot] = torch.where(shapes[which] > 0.25, int(names[which]) + 1, 0)
        return images, wanted

    return _split(drawn(0, 1400, 3000), drawn(1400, 1797, _EVALUATION))


def _split(training: _Images, evaluation: _Images) -> tuple[_Images, _Images, _Images]:
    return (
        (training[0][_CALIBRATION:], training[1][_CALIBRATION:]),
        (training[0][:_CALIBRATION], training[1][:_CALIBRATION]),
        (evaluation[0][:_EVALUATION], evaluation[1][:_EVALUATION]),
    )


if __name__ == "__main__":
    main()
