"""Whether a device computes what the CPU computes: each check counts what differs, and how far.

Ranges, logits and files start from one network with the same weights on both. TF32 is off, which
rounds the inputs of a GPU's convolutions to 10 bits; one row says what it changes.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from measure import TASK, aimet, network
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitladder
from bitladder import data, deploy, models, simulation, training
from bitladder.options import (
    Calibrate,
    DatasetOptions,
    LoaderOptions,
    ModelOptions,
    Precision,
    TrainOptions,
)
from bitladder.simulation.aimet import accelerate
from bitladder.techniques.fold_batch_norm import fold_batch_norm

METHODS = ("min_max", "sqnr", "mse", "percentile", "entropy")
_SHAPE = (32, 1, 32, 32)


@dataclass(frozen=True)
class Check:
    """What was compared, and what differs.

    Attributes:
        what: the quantity.
        case: of which network or setting.
        values: how many were compared.
        differing: how many of them differ in a bit.
        most: how far the farthest is, in words.
        equal: whether the check holds: equal in every bit, or as near as its rule says.
        rule: what it takes to hold.
    """

    what: str
    case: str
    values: int
    differing: int
    most: str
    equal: bool
    rule: str


def checks(device: str, name: str, quick: bool) -> Iterator[Check]:
    """All checks, as they are done; one that fails by an error is a row that says so."""
    size = (4, 6, 5, 5) if quick else (64, 48, 14, 14)
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("fake-quantize", lambda: _fake_quantize(device, size)),
        ("ranges", lambda: _ranges(device, name, METHODS[:2] if quick else METHODS)),
        ("logits, biases and file", lambda: _one_network(device, name)),
        ("from float to file", lambda: _whole(device, name, 3 if quick else 60)),
    ]
    for what, part in parts:
        try:
            with _without_tf32():
                yield from part()
        except Exception as error:  # the other checks still say something
            first = str(error).strip().splitlines()[:1]
            failure = f"{type(error).__name__}: {' '.join(first)}"[:200]
            yield Check(what, "", 0, 0, f"fails: {failure}", False, "it runs")


@contextlib.contextmanager
def _without_tf32(wanted: bool = False) -> Iterator[None]:
    """Switch TF32 of convolutions and products off, or on, in a block."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = wanted
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def _fake_quantize(device: str, size: tuple[int, int, int, int]) -> Iterator[Check]:
    """The kernel's values and gradients against the CPU's, and against AIMET's own on the device.

    Half of the values lie in the middle between two integers of the grid or an ulp beside it.
    """
    generator = torch.Generator().manual_seed(0)
    small = (size[0], size[1], 3, 3)  # as weights are
    layouts = (("one range, ReLU6", size), ("a range a channel", size), ("small channels", small))
    for bits, (layout, dimensions) in itertools.product((2, 4, 8, 16), layouts):
        channels = layout != layouts[0][0]
        shape = (dimensions[0], 1, 1, 1) if channels else ()
        low, high = (torch.rand(shape, generator=generator) + 0.5 for _ in range(2))
        x, weight = (torch.randn(dimensions, generator=generator) for _ in range(2))
        x = _with_ties(x, low, high, bits).contiguous(memory_format=torch.channels_last)
        given = (low, high, bits, channels)
        case = f"{bits} bit, {layout}"
        clip = (-math.inf, math.inf) if channels else (0.0, 6.0)
        wanted = _run(_quantizer(*given, "cpu"), x, weight, clip)
        found = _run(_quantizer(*given, device), x.to(device), weight.to(device), clip)
        step = float(((low + high) / (2**bits - 1)).max())
        yield _difference("fake-quantize, y", case, wanted[0], found[0], step)
        yield _difference("fake-quantize, dx", case, wanted[1], found[1], 1.0, unit="")
        yield _near("fake-quantize, gradients of ranges", case, wanted[2:], found[2:])
        own = _quantizer(*given, device, own=True)
        with aimet("quantization.affine.backends").set_backend("torch_builtins"):
            theirs = _run(own, x.to(device), weight.to(device), clip)
        yield _difference(
            "fake-quantize against AIMET's there, y", case, theirs[0], found[0], step, within=1.01
        )


def _quantizer(
    low: Tensor, high: Tensor, bits: int, symmetric: bool, device: str, own: bool = False
) -> Any:
    kind = aimet("quantization.affine.quantizer").QuantizeDequantize
    quantizer = kind(tuple(low.shape), bits, symmetric)
    quantizer.set_range(-low, high)
    if not own:
        accelerate(quantizer)
    return quantizer.to(device)


def _with_ties(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Every second value moved to the middle between two integers, or next to it."""
    scale = ((low + high) / (2**bits - 1)).expand_as(x)
    ties = (torch.floor(x / scale) + 0.5) * scale
    beside = torch.nextafter(ties, torch.full_like(ties, math.inf))
    place = torch.arange(x.numel()).view(x.shape) % 4
    return torch.where(place == 0, ties, torch.where(place == 1, beside, x))


def _run(quantizer: Any, x: Tensor, weight: Tensor, clip: tuple[float, float]) -> list[Tensor]:
    """Values, and gradients of the input and both ends of the range, on the CPU."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    if hasattr(quantizer, "clip_and_quantize"):
        y = quantizer.clip_and_quantize(x, *clip)
    else:
        y = quantizer(x if math.isinf(clip[1]) else nn.functional.relu6(x))
    (y.as_subclass(Tensor) * weight).sum().backward()
    found = (y.detach().as_subclass(Tensor), x.grad, quantizer.min.grad, quantizer.max.grad)
    return [value.cpu() for value in found if value is not None]


def _ranges(device: str, name: str, methods: tuple[str, ...]) -> Iterator[Check]:
    """What calibration finds from the same images."""
    images = _images(64)
    for method in methods:
        found = []
        for place in ("cpu", device):
            simulated = _simulated(name, place, method)
            simulated.calibrate(images)
            found.append(dict(_bounds(simulated)))
        for kind in ("weight", "input and output"):
            keys = [key for key in found[0] if (key[1] == "weight") == (kind == "weight")]
            wanted, got = (torch.cat([ranges[key] for key in keys]) for ranges in found)
            width = float(wanted.abs().max())
            rule = None if kind == "weight" else 0.05
            yield _difference(
                f"ranges of {kind} quantizers", f"{name}, {method}", wanted, got, width,
                unit=" of the widest", within=rule,
            )  # fmt: skip


def _bounds(simulated: simulation.SimulatedModel) -> Iterator[tuple[tuple[str, str], Tensor]]:
    for info, quantizer in simulated.quantizers():
        bounds: Any = (quantizer.min, quantizer.max)
        yield (info.name, info.kind), torch.cat([b.detach().cpu().flatten() for b in bounds])


def _one_network(device: str, name: str) -> Iterator[Check]:
    """One calibrated network in both places: its logits, the biases of its file, the file."""
    images = _images(250)
    reference = network(name)
    float_logits = [
        logits_of(copy.deepcopy(reference).to(place), images) for place in ("cpu", device)
    ]
    yield _logits("float logits", name, *float_logits, within=1e-3)
    ours, theirs = (_simulated(name, place, "sqnr") for place in ("cpu", device))
    ours.calibrate(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        ours.save(path / "state.safetensors")
        theirs.restore(path / "state.safetensors")
        wanted = logits_of(ours, images)
        yield _logits("simulated logits, w8a8", name, wanted, logits_of(theirs, images))
        with _without_tf32(wanted=True):
            found = logits_of(theirs, images)
        yield _logits("simulated logits, w8a8, TF32 on", name, wanted, found)
        traced = [deploy.Traced(simulated) for simulated in (ours, theirs)]
        notes = [one.quantize_biases() for one in traced]
        biases = [_biases(simulated) for simulated in (ours, theirs)]
        yield _difference("int32 biases", f"{name}, {notes[1]}", *biases, 1.0, unit="")
        files = [path / f"{place}.onnx" for place in ("cpu", "device")]
        for one, file in zip(traced, files, strict=True):
            one.write_qdq(file)
        read = [torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8) for file in files]
        same_length = len(read[0]) == len(read[1])
        count = int((read[0] != read[1]).sum()) if same_length else len(read[0])
        most = "0" if not count else "bytes differ" if same_length else "another length"
        yield Check("bytes of the exported file", name, len(read[0]), count, most, not count, "all")


def _whole(device: str, name: str, steps: int) -> Iterator[Check]:
    """From float to file with AdaRound and fine-tuning, by the same call in both places."""
    loaded = data.load(DatasetOptions(name="embedded"), LoaderOptions(), seed=0)
    model = models.build(
        ModelOptions(name=name), classes=loaded.classes, shapes=loaded.shapes, seed=0
    )
    options = TrainOptions(steps=2 * steps, batch_size=64, lr=2e-3, early_stopping=None)
    images = data.calibration_images(loaded, 256)
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            model, loaded.train, None, options.model_copy(update={"accelerator": "cpu"}),
            TASK, seed=0, log_dir=Path(folder), classes=loaded.classes,
        )  # fmt: skip
        held_out, labels = next(iter(loaded.validation.batches(500)))
        pairs = TensorDataset(*next(iter(loaded.train.batches(32 * steps))))
        files, simulated, correct = [], [], []
        for place in ("cpu", device):
            recipe = [
                "fold_batch_norm",
                {"calibrate": {"images": 256}},
                {"adaround": {"iterations": steps, "images": 64}},
                {"bias_correction": {"method": "empirical", "images": 256}},
            ]
            quantized = bitladder.quantize(
                copy.deepcopy(model).to(place), images, "w4a8", recipe, task=TASK
            )
            quantized.finetune(DataLoader(pairs, batch_size=32), steps=steps)
            path = quantized.export(Path(folder) / f"{place}.onnx")
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            [logits] = session.run(None, {"x": held_out.numpy()})
            files.append(torch.from_numpy(logits))
            simulated.append(logits_of(quantized.simulated, held_out))
            correct.append(float((files[-1].argmax(1) == labels).double().mean()))
        words = f"right: {correct[0]:.3f} from the CPU, {correct[1]:.3f} from the device"
        case = f"{name}, w4a8, {steps} iterations of AdaRound and steps of finetune; {words}"
        yield _logits("simulation on the device and its file", case, simulated[1], files[1], 0.05)
        yield _logits("files made on the CPU and on the device", case, *files, 0.35)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """What a classifier gives for images, on the CPU."""
    [logits] = simulation.outputs(model, images).values()
    return logits


def agreement(first: Tensor, other: Tensor) -> float:
    """Share of images, 0 to 1, to which both give the same class."""
    return float(TASK.agreement({"output": other}, {"output": first}).double().mean())


def _images(count: int) -> Tensor:
    return torch.rand(count, *_SHAPE[1:], generator=torch.Generator().manual_seed(1))


def _simulated(name: str, device: str, method: str) -> simulation.SimulatedModel:
    options = Calibrate(method=method)  # type: ignore[arg-type]
    model = fold_batch_norm(simulation.prepare(network(name)))[0].to(device)  # the same weights
    shape = (_SHAPE[1], _SHAPE[2], _SHAPE[3])
    return simulation.SimulatedModel(model, Precision(8, 8), shapes=[shape], options=options).eval()


def _biases(simulated: simulation.SimulatedModel) -> Tensor:
    named = simulated.module.named_parameters()
    return torch.cat([value.detach().cpu().flatten() for key, value in named if "bias" in key])


def _difference(
    what: str,
    case: str,
    wanted: Tensor,
    found: Tensor,
    step: float,
    *,
    unit: str = " steps",
    within: float | None = None,
) -> Check:
    """Count values that differ; equal is every bit, or all within a share of a step."""
    differing = int((wanted != found).sum())
    most = float((wanted.double() - found.double()).abs().max()) / step
    most = math.inf if not bool(torch.isfinite(found).all()) else most
    equal = not differing if within is None else most <= within
    rule = "every bit" if within is None else f"within {within:g}{unit}"
    return Check(what, case, wanted.numel(), differing, f"{most:.2g}{unit}", equal, rule)


def _near(what: str, case: str, wanted: list[Tensor], found: list[Tensor]) -> Check:
    """Sums of many values, which no two orders add up to the same bits."""
    a, b = (torch.cat([value.flatten().double() for value in values]) for values in (wanted, found))
    most = float((a - b).abs().max() / a.abs().max())
    count = int((a != b).sum())
    return Check(what, case, a.numel(), count, f"{most:.1g} of the largest", most < 1e-3, "1e-3")


def _logits(what: str, case: str, wanted: Tensor, found: Tensor, within: float = 0.05) -> Check:
    """Logits of the same images: noise over signal as amplitudes, and the classes that stay."""
    ratio = float((wanted.double() - found.double()).norm() / wanted.double().norm())
    stay = agreement(wanted, found)
    most = f"{ratio:.2g} of the signal; {stay:.4f} of the classes stay"
    differing = int((wanted != found).sum())
    rule = f"within {within:g} of the signal"
    return Check(what, case, wanted.numel(), differing, most, ratio <= within, rule)
