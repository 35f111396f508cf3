"""Does a target compute what the simulation promised? One call for a file and some images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitladder import targets
from bitladder.errors import TargetError
from bitladder.protocols import Quantized
from bitladder.simulation import SimulatedModel

_LAYER_IMAGES = 4  # images on which layers are compared
_UNKNOWN = -1  # a label that no class has


@dataclass(frozen=True)
class Verification:
    """What a target made of an artifact.

    Attributes:
        target: its name.
        comparison: against the simulation; its accuracies count nothing where there are no labels.
        labelled: whether the images had labels.
        notes: what does not run as the target's integer arithmetic, a line each.
        saturation: what saturated sums cost here, or may elsewhere, in words; None where neither.
        first_layer: the first layer that the target computes differently, on images to which it
            gives other classes if there are any; None where there is none or where it cannot show
            its layers.
    """

    target: str
    comparison: targets.Comparison
    labelled: bool
    notes: tuple[str, ...]
    saturation: str | None
    first_layer: targets.LayerDifference | None


def verify(
    artifact: str | Path,
    images: Tensor | Iterable[Any],
    *,
    target: str = "onnxruntime",
    version: str | None = None,
    simulation: Callable[[Tensor], Tensor] | None = None,
    integer: str | Path | None = None,
    limit: int | None = None,
    threads: int = 0,
) -> Verification:
    """Run an artifact on a target and compare it with its simulation.

    Args:
        artifact: an ONNX file of one input and, first, logits (N, classes).
        images: (N, C, H, W), or batches (images, labels), which give accuracies.
        target: ``onnxruntime`` or ``htp``.
        version: of the HTP, such as ``v75``; by default the emulator's own.
        simulation: maps images to the logits that were promised, such as a ``QuantizedModel``; by
            default the graph itself, every operation by itself in float between its quantizers.
        integer: the ONNX file whose integer arithmetic the target is compared with, where that is
            another file than the one it runs.
        limit: images to run, the first; by default all.
        threads: threads to run with, 0 for as many as the target likes.

    Raises:
        TargetError: the target is not installed or refuses the artifact, or the images do not fit.
    """
    path = Path(artifact)
    batches = _batches(images, limit)
    session = targets.open_target(target, path, threads=threads, version=version)
    notes = list(session.fallbacks)
    precise = targets.open_precise(target, path, threads=threads)
    unfused = targets.open_unfused(path)

    def by_operation(given: Tensor) -> Tensor:
        return torch.from_numpy(unfused.run(given.numpy()))

    try:
        exact: targets.Session | None = targets.integer_session(Path(integer or path))
    except TargetError as error:
        exact = None
        notes.append(str(error))
    try:
        with torch.no_grad():
            comparison = targets.compare(
                session, simulation or by_operation, batches, exact, precise
            )
    finally:
        session.close()
    labelled = all(bool((labels != _UNKNOWN).all()) for _, labels in batches)
    saturation = comparison.saturation(labelled=labelled)
    if precise is not None and saturation is None:
        saturation = targets.saturation_risk(path)
    try:
        every = torch.cat([given for given, _ in batches])
        looked_at = every[list(comparison.apart or range(min(_LAYER_IMAGES, len(every))))]
        quantized = simulation.simulated if isinstance(simulation, Quantized) else simulation
        layers = targets.layer_differences(
            path,
            target,
            looked_at.numpy(),
            version=version,
            simulation=quantized if isinstance(quantized, SimulatedModel) else None,
        )
    except TargetError:
        notes.append("the layers cannot be compared: the target refuses them as outputs")
        layers = []
    first = layers[0] if layers else None
    return Verification(target, comparison, labelled, tuple(notes), saturation, first)


def _batches(images: Tensor | Iterable[Any], limit: int | None) -> list[tuple[Tensor, Tensor]]:
    given = torch.split(images, 250) if isinstance(images, Tensor) else images
    found: list[tuple[Tensor, Tensor]] = []
    left = limit
    for batch in given:
        some = batch[0] if isinstance(batch, list | tuple) else batch
        labels = batch[1] if isinstance(batch, list | tuple) else torch.full((len(some),), _UNKNOWN)
        found.append((some[:left].contiguous(), labels[:left]))
        if left is not None and (left := left - len(some)) <= 0:
            break
    if not sum(len(labels) for _, labels in found):
        raise TargetError("there are no images to verify on; give at least one")
    return found
