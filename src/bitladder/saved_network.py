"""The file of a quantized network: its weights and ranges, and what is needed to rebuild it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from bitladder import models, records, tasks
from bitladder.errors import QuantizationError
from bitladder.measurement import Measurement
from bitladder.options import ModelOptions, Normalization, Technique, dump_recipe, told
from bitladder.outside import check_file
from bitladder.rungs import Rung
from bitladder.simulation import SimulatedModel
from bitladder.tasks import Task

FORMAT = 2
"""Of what a file says of its network. Files of bitladder 0.1 say none, which is format 1."""
_METADATA = "bitladder"


@dataclass(frozen=True)
class SavedNetwork:
    """What a file says of its network, beside weights and ranges.

    Attributes:
        format: of this description.
        precision: bits of weights and activations.
        shapes: of one image or signal of each input.
        dtypes: of each input, such as ``float32``.
        seed: of everything random.
        task: by which ``tasks.find`` makes the task, or None.
        recipe: techniques that were applied, as ``options.dump_recipe`` writes them.
        rungs: what was measured on the way, without scores of single images.
        frozen: parameters that are not trained.
        model: which network it is, as ``ModelOptions``, if it has a name.
        classes: of that network.
        normalized: what training did to the pixels, as ``Normalization``, if the network does it.
        pixels: its images have the grid of bytes.
    """

    format: int
    precision: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    seed: int
    task: str | None
    recipe: tuple[Any, ...]
    rungs: tuple[Rung, ...]
    frozen: tuple[str, ...]
    model: Mapping[str, Any] | None = None
    classes: int | None = None
    normalized: Mapping[str, Any] | None = None
    pixels: bool = False

    @property
    def normalization(self) -> Normalization | None:
        """What became a part of the network."""
        return None if self.normalized is None else Normalization.model_validate(self.normalized)

    @property
    def torch_dtypes(self) -> tuple[torch.dtype, ...]:
        """The type of each input's numbers."""
        return tuple(getattr(torch, name) for name in self.dtypes)

    def network(self, path: Path) -> nn.Module:
        """The network that the file names, with new weights.

        Args:
            path: of the file, for the error.

        Raises:
            QuantizationError: it names none.
            ModelError: the network that it names is not there.
        """
        if self.model is None:
            raise QuantizationError(f"{path}: does not name its network; give the model")
        assert self.task is not None
        return models.build(
            ModelOptions.model_validate(self.model),
            classes=self.classes,
            shapes=self.shapes,
            seed=self.seed,
            task=tasks.find(self.task),
        )


def save_quantized(
    simulated: SimulatedModel,
    path: Path,
    *,
    recipe: Sequence[Technique],
    seed: int,
    task: Task | str | None,
    model: ModelOptions | None = None,
    classes: int | None = None,
    rungs: Sequence[Rung] = (),
    normalization: Normalization | None = None,
    pixels: bool = False,
) -> None:
    """Write a quantized network so that ``QuantizedModel.load`` can rebuild it.

    Args:
        simulated: the network.
        path: the safetensors file.
        recipe: techniques that were applied.
        seed: seed of everything random.
        task: what its outputs mean, or its name, or None.
        model: which network it is, if it has a name.
        classes: of that network.
        rungs: what was measured on the way.
        normalization: of pixels, that became a part of the network.
        pixels: its images have the grid of bytes, by whom it was quantized.
    """
    parameters = simulated.module.named_parameters()
    described = SavedNetwork(
        format=FORMAT,
        precision=str(simulated.precision),
        shapes=simulated.shapes,
        dtypes=tuple(str(one).removeprefix("torch.") for one in simulated.dtypes),
        seed=seed,
        task=task if isinstance(task, str) else _name(task),
        recipe=tuple(dump_recipe(recipe)),
        rungs=tuple(replace(rung, quality=_bare(rung.quality)) for rung in rungs),
        frozen=tuple(name for name, value in parameters if not value.requires_grad),
        model=None if model is None else model.model_dump(mode="json"),
        classes=classes,
        normalized=told(normalization),
        pixels=pixels,
    )
    simulated.save(path, {_METADATA: json.dumps(records.plain(described))})


def read_saved(path: Path) -> SavedNetwork:
    """What a file says of its network.

    Raises:
        QuantizationError: it cannot be read, was not written by us, or is of another format.
    """
    check_file(path, refusal=QuantizationError)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA)
    except Exception as error:  # safetensors raises its own type, and OSError
        raise QuantizationError(f"{path}: cannot read: {error}") from None
    if text is None:
        raise QuantizationError(f"{path}: was not written by QuantizedModel.save")
    try:
        described = dict(json.loads(text))
        found = described.get("format", 1)
    except (ValueError, TypeError):
        raise QuantizationError(f"{path}: what it says of its network is damaged") from None
    if found != FORMAT:
        older = isinstance(found, int) and found < FORMAT
        raise QuantizationError(
            f"{path}: was saved by {'an older' if older else 'a newer'} bitladder (format {found}; "
            f"this one reads {FORMAT}); "
            + ("quantize the network again" if older else "upgrade bitladder")
        )
    try:
        return records.read(SavedNetwork, described)
    except ValueError:
        raise QuantizationError(f"{path}: what it says of its network is damaged") from None


def _name(task: Task | None) -> str | None:
    """By which ``tasks.find`` makes it again, or None."""
    if task is None or task.name in tasks.TASKS:
        return None if task is None else task.name
    return f"{type(task).__module__}:{type(task).__qualname__}"


def _bare(quality: Measurement | None) -> Measurement | None:
    """Without what belongs to single images, which a file of weights has no room for."""
    return quality and replace(quality, scores=None, resamples=None)
