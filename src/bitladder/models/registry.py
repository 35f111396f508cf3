"""A name -> a network with seeded weights, ready for images of one shape and their classes.

A name is looked up as an import path, then among torchvision's classifiers, then among timm's.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import nn

from bitladder.errors import ModelError, unknown
from bitladder.models.names import MODELS, is_import_path, is_onnx_file, split_import_path
from bitladder.models.onnx_file import from_onnx
from bitladder.models.pretrained import (
    load_timm,
    load_torchvision,
    timm_file,
    torchvision_file,
)
from bitladder.models.shim import WithShim
from bitladder.models.summary import evaluating
from bitladder.options import ModelOptions
from bitladder.structures import named
from bitladder.tasks import Task
from bitladder.tasks import find as find_task
from bitladder.user_code import import_function, one_line

# These two return a tuple of outputs in training unless their auxiliary heads are left out.
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build(
    options: ModelOptions,
    *,
    classes: int | None,
    shapes: Sequence[tuple[int, ...]],
    seed: int,
    task: Task | None = None,
) -> nn.Module:
    """Build a network in training mode; ``options.weights`` is for ``load_weights`` after it.

    Images of one channel go through a shim where the network's first convolution takes three.

    Args:
        options: its name, and whether to start from ImageNet's weights.
        classes: outputs of the last layer; for two, a network of one's own may have a single one.
            None where the task has none: a function of one's own is called without it.
        shapes: of one image, for each input, such as ((channels, height, width),).
        seed: decides the initial weights; the global random state is left alone.
        task: what its outputs mean; by default classification.

    Raises:
        ModelError: the name is unknown, the pretrained weights are out of reach, or the network
            does not map such images to outputs that the task can read.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = shapes[0][0]
        model = _create(options, classes, shapes)
        if channels == 1 and len(shapes) == 1 and _input_channels(model) == 3:
            model = WithShim(model)
    _check(model, options.name, classes, shapes, task or find_task("classification"))
    return model.train()


def pretrained_file(name: str) -> Path:
    """The file of a network's pretrained weights; it is downloaded if it is not there.

    Raises:
        ModelError: the name is unknown, or the file is out of reach.
    """
    if name in torchvision.models.list_models(module=torchvision.models):
        return torchvision_file(name)
    if _timm_has(name):
        return timm_file(name)
    raise ModelError(_unknown_model(name))


def _create(
    options: ModelOptions, classes: int | None, shapes: Sequence[tuple[int, ...]]
) -> nn.Module:
    name, channels = options.name, shapes[0][0]
    if is_onnx_file(name):
        return from_onnx(name, shapes)
    if is_import_path(name):
        if options.pretrained:
            raise ModelError(
                f"pretrained is for torchvision and timm names; load the weights in '{name}' itself"
            )
        return _from_function(name, classes)
    if classes is None:
        raise ModelError(
            f"model '{name}' is a classifier, and the images have no classes; give a network of "
            "the task as package.module:function"
        )
    if name in torchvision.models.list_models(module=torchvision.models):
        return _from_torchvision(name, classes, options.pretrained)
    if _timm_has(name):
        return _from_timm(name, classes, channels, options.pretrained)
    raise ModelError(_unknown_model(name))


def _from_function(name: str, classes: int | None) -> nn.Module:
    split_import_path(name)
    try:
        function = import_function(name)
        model = function() if classes is None else function(num_classes=classes)
    except Exception as error:
        # Whatever a person's own code raises is told in one line, with the place it came from.
        raise ModelError(f"model '{name}' failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model '{name}' returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _from_torchvision(name: str, classes: int, pretrained: bool) -> nn.Module:
    settings: dict[str, Any] = {"num_classes": classes}
    if name in _WITH_AUXILIARY_HEADS:
        settings |= {"aux_logits": False, "transform_input": pretrained, "init_weights": True}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **settings)
    if pretrained:
        load_torchvision(model, name)
    return model


def _timm_has(name: str) -> bool:
    if importlib.util.find_spec("timm") is None:
        return False
    import timm

    return bool(timm.is_model(name))


def _from_timm(name: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    import timm

    if pretrained:
        return load_timm(name, classes, channels)
    try:
        model: nn.Module = timm.create_model(name, num_classes=classes, in_chans=channels)
    except Exception as error:
        raise ModelError(f"timm cannot build '{name}': {one_line(error)}") from error
    return model


def _unknown_model(name: str) -> str:
    known = [*MODELS, *torchvision.models.list_models(module=torchvision.models)]
    advice = " (timm's names need: pip install 'bitladder[timm]')"
    if importlib.util.find_spec("timm") is not None:
        import timm

        known += timm.list_models()
        advice = ""
    # Without a near name the built-ins are listed, not the thousand others.
    near = difflib.get_close_matches(name, known, n=1)
    return unknown("model", name, near or MODELS) + advice


def _input_channels(model: nn.Module) -> int | None:
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return None if first is None else first.in_channels


def _check(
    model: nn.Module,
    name: str,
    classes: int | None,
    shapes: Sequence[tuple[int, ...]],
    task: Task,
) -> None:
    size = " and ".join("x".join(str(length) for length in shape) for shape in shapes)
    try:
        with evaluating(model), torch.no_grad():
            returned = model(*(torch.zeros(2, *shape) for shape in shapes))
    except Exception as error:
        raise ModelError(
            f"model '{name}' cannot take images of {size} (channels x height x width): "
            f"{one_line(error)}"
        ) from error
    try:
        task.check(named(returned), classes=classes)
    except ModelError as error:
        raise ModelError(f"model '{name}' {error}") from None
