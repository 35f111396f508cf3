"""What is amiss with a study before it runs: its data, and how its networks fit the data.

Networks are asked only where they come with weights: others have learned nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bitladder import data, models, tasks
from bitladder.data.findings import MOST, examine
from bitladder.models.names import is_onnx_file
from bitladder.options import ModelOptions, calibration_count
from bitladder.options.data import IMAGENET
from bitladder.structures import Inputs
from bitladder.study import Study

_IMAGES = 256  # of a split that go through a network
_FITS, _MISFIT = 0.05, 0.5  # nats a channel that are nothing, and that are amiss by themselves
_FAR_BETTER, _BETTER = 0.1, 0.25  # part that another form leaves, below and above the latter
_GROWS = 0.10  # relative growth of ranges from half to all of the calibration images
_LEAVES = 0.5  # of the range, by which validation may leave it
_COLOURS = 3


def examine_study(study: Study, most: int = MOST) -> Iterator[str]:
    """The findings on a study's data and networks, a line each, as they are found.

    Args:
        study: its data sets are read.
        most: images of a split that are looked at.

    Raises:
        DataError, ModelError: something cannot be read.
    """
    task = tasks.find(study.task.name)
    for options in study.datasets:
        images = data.load(options, study.data, seed=study.every_seed[0], task=task)
        yield from examine(images, most)
        counts = [calibration_count(recipe.steps) for recipe in study.every_recipe]
        wanted = min(max(counts), images.train.images)
        for model in study.models:
            if not (model.pretrained or model.weights or is_onnx_file(model.name)):
                continue
            network = _network(model, images, study, task).eval()
            place = f"{images.name}, {model.name}"
            calibration = data.calibration_images(images, max(1, min(wanted, _IMAGES)))
            others = data.calibration_images(_validation_first(images), _IMAGES)
            for found in (misfit(network, calibration), *ranges(network, calibration, others)):
                if found:
                    yield f"{place}: {found}"


def misfit(network: nn.Module, images: Inputs) -> str | None:
    """Whether images fit what the first batch norm of a network has seen; None where they do.

    The measure is the mean Kullback-Leibler divergence, in nats a channel, of the values that
    arrive, taken as normal, from the running statistics. It is compared with that of the same
    images normalized as ImageNet's, in -1 to 1, in 0 to 255 and with their channels turned.

    Args:
        network: in evaluation mode, with its weights.
        images: float32 (N, C, H, W), as the network gets them.
    """
    norm = next((one for one in network.modules() if _has_statistics(one)), None)
    if norm is None or len(images) != 1 or images[0].dim() != 4:
        return None
    [pixels] = images
    own = _divergence(network, norm, pixels)
    if own is None or own < _FITS:
        return None
    found = {name: _divergence(network, norm, form) for name, form in _forms(pixels)}
    known = {name: value for name, value in found.items() if value is not None}
    best = min(known, key=lambda name: known[name], default="")
    told = f"its first batch norm expects other values than arrive ({own:.2f} nats a channel)"
    if best and known[best] < (_BETTER if own >= _MISFIT else _FAR_BETTER) * own:
        return f"{told}; {best} they fit ({known[best]:.2f}): give them so"
    if own < _MISFIT:
        return None
    return f"{told}: see how its weights' training normalized images, and the order of channels"


def ranges(network: nn.Module, calibration: Inputs, validation: Inputs) -> Iterator[str]:
    """Findings on the ranges of activations: too few images, ranges left, channels never reached.

    Args:
        network: in evaluation mode, with its weights.
        calibration: its inputs.
        validation: other inputs.
    """
    count = len(calibration[0])
    half = _extremes(network, tuple(one[: count // 2] for one in calibration))
    whole, other = _extremes(network, calibration), _extremes(network, validation)
    if count > 1 and half:
        growth = sorted(_beyond(half[name], whole[name]) for name in half)[len(half) // 2]
        if growth > _GROWS:
            yield (
                f"calibration is small: ranges still grow by {100 * growth:.0f} % in the median "
                f"layer from {count // 2} to {count} images; give it more"
            )
    left = {name: _beyond(whole[name], other[name]) for name in whole if name in other}
    worst = max(left, key=lambda name: left[name], default="")
    if worst and left[worst] > _LEAVES:
        layers = sum(beyond > _LEAVES for beyond in left.values())
        yield (
            f"validation leaves the calibrated range of {layers} layers by more than half, most in "
            f"{worst}, by {100 * left[worst]:.0f} %: calibrate with images like those"
        )
    silent = {
        name: int(((high <= 0) & (other[name][1] > 0)).sum())
        for name, (_, high) in whole.items()
        if name in other
    }
    missed = {name: channels for name, channels in silent.items() if channels}
    if missed:
        name = max(missed, key=lambda one: missed[one])
        yield (
            f"{sum(missed.values())} channels are above zero on validation images and never on "
            f"calibration images, most in {name}: give calibration more images"
        )


def _network(
    model: ModelOptions, images: data.ImageData, study: Study, task: tasks.Task
) -> nn.Module:
    network = models.build(
        model, classes=images.classes, shapes=images.shapes, seed=study.every_seed[0], task=task
    )
    if model.weights is not None:
        models.load_weights(
            network,
            model.weights,
            key=model.weights_key,
            new_head=study.train.start == "weights",
        )
    return network


def _validation_first(images: data.ImageData) -> data.ImageData:
    """The same data set with its validation images to be taken from."""
    return data.ImageData(**{**vars(images), "train": images.validation})


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


def _forms(pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same images as a network may want them, by what makes them fit."""
    if pixels.shape[1] == _COLOURS:
        mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in (IMAGENET.mean, IMAGENET.std))
        yield "with normalize: imagenet", (pixels - mean) / deviation
        yield "without normalize: imagenet", pixels * deviation + mean
        yield "with channels in the order blue, green, red", pixels.flip(1)
    yield "in -1 to 1", 2 * pixels - 1
    yield "in 0 to 255", 255 * pixels


@torch.no_grad()
def _divergence(network: nn.Module, norm: nn.Module, pixels: Tensor) -> float | None:
    """Nats a channel; None where the network does not reach its batch norm."""
    arrived: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: arrived.append(inputs[0]))
    try:
        network(pixels)
    finally:
        handle.remove()
    if not arrived:
        return None
    variance, mean = torch.var_mean(arrived[0].double(), (0, 2, 3), correction=0)
    statistics: Any = norm
    known, spread = statistics.running_mean.double(), statistics.running_var.double()
    ratio = ((variance + 1e-8) / (spread + 1e-8)).clamp(min=1e-8)
    shift = (mean - known).square() / (spread + 1e-8)
    return float((0.5 * (ratio + shift - 1 - ratio.log())).median())


@torch.no_grad()
def _extremes(network: nn.Module, inputs: Inputs) -> dict[str, tuple[Tensor, Tensor]]:
    """Smallest and largest value of each channel of every layer's output."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() > 1 and output.is_floating_point():
            rows = output.transpose(0, 1).flatten(1)
            found[name] = (rows.amin(1), rows.amax(1))

    leaves = [(name, one) for name, one in network.named_modules() if not list(one.children())]
    handles = [one.register_forward_hook(partial(keep, name)) for name, one in leaves]
    try:
        network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _beyond(known: tuple[Tensor, Tensor], seen: tuple[Tensor, Tensor]) -> float:
    """How far a layer's values leave its range, in parts of it."""
    low, high = min(0.0, float(known[0].min())), max(0.0, float(known[1].max()))
    out = max(low - float(seen[0].min()), float(seen[1].max()) - high, 0.0)
    return out / max(high - low, 1e-12)
