"""Does a target compute what the simulation promised? One call for a file and some images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitladder import deploy, structures, target_specs, targets, tasks
from bitladder.errors import TargetError
from bitladder.isolation import isolated
from bitladder.progress import Step
from bitladder.protocols import Quantized
from bitladder.simulation import LEVELS, SimulatedModel
from bitladder.steps_shown import Tell, shown
from bitladder.structures import Inputs, Outputs, as_inputs, count, joined
from bitladder.structures import first as first_of
from bitladder.target_specs import TargetSpec
from bitladder.tasks import Task

_BATCH = 250  # images that run at a time
_LAYER_IMAGES = 4  # images on which layers are compared


@dataclass(frozen=True)
class Verification:
    """What a target made of an artifact.

    Attributes:
        target: its name.
        comparison: against the simulation.
        notes: what does not run as the target's integer arithmetic, a line each.
        saturation: what saturated sums cost here, or may elsewhere, in words; None where neither.
        first_layer: the first layer that the target computes differently, on images to which it
            gives other answers if there are any; None where there is none or where it cannot show
            its layers.
    """

    target: str
    comparison: targets.Comparison
    notes: tuple[str, ...]
    saturation: str | None
    first_layer: targets.LayerDifference | None


@isolated()
def verify(
    artifact: str | Path,
    images: Tensor | Inputs | Iterable[Any],
    *,
    task: str | Task | None = None,
    target: str | TargetSpec = "onnxruntime",
    version: str | None = None,
    simulation: Callable[..., Any] | None = None,
    integer: str | Path | None = None,
    encodings: str | Path | None = None,
    limit: int | None = None,
    threads: int = 0,
    progress: bool | Tell = True,
) -> Verification:
    """Run an artifact on a target and compare it with its simulation.

    Args:
        artifact: an ONNX file.
        images: a tensor (N, ...), uint8 of bytes, for several inputs a tuple of them, or batches:
            inputs, or pairs of inputs and their target, which give qualities.
        task: what the outputs mean: a name, ``package.module:Class``, or a ``Task``. Without one,
            values alone are compared.
        target: ``onnxruntime``, ``openvino``, ``litert``, ``htp``, ``package.module:NAME``, or a
            ``TargetSpec``.
        version: of the target, such as ``v75`` of the HTP; by default its own.
        simulation: maps inputs to what was promised, such as a ``QuantizedModel``; by default the
            graph itself, every operation by itself in float between its quantizers.
        integer: the ONNX file whose integer arithmetic a target without arithmetic of its own is
            compared with, where that is another file than the one it runs.
        encodings: AIMET's JSON of the tensors of a float file, whoever made it; the target gets
            the file with these grids.
        limit: images to run, the first; by default all.
        threads: threads to run with, 0 for as many as the target likes.
        progress: show how many images are through on the standard error, as a bar in a terminal or
            a notebook, as lines elsewhere; or a function that is told each ``progress.Step``.

    Raises:
        StudyError: the task is unknown.
        TargetError: the target is not installed or refuses the artifact, or the images do not fit.
        ExportError: the encodings cannot be read, or are not of the artifact.
    """
    path = Path(artifact)
    if encodings is not None:
        with tempfile.TemporaryDirectory() as folder:
            written, usual = (Path(folder) / name for name in ("own.onnx", "model.onnx"))
            deploy.write_encoded(path, Path(encodings), written, target)
            deploy.write_encoded(path, Path(encodings), usual)
            return verify(
                written, images, task=task, target=target, version=version, simulation=simulation,
                integer=usual, limit=limit, threads=threads, progress=progress,
            )  # fmt: skip
    meaning = None if task is None else tasks.find(task)
    batches = _batches(images, limit, len(targets.graph_inputs(path)))
    session = targets.open_target(target, path, threads=threads, version=version)
    notes = list(session.fallbacks)
    precise = targets.open_precise(target, path, threads=threads)
    unfused = targets.open_unfused(path)

    def by_operation(*inputs: Tensor) -> Outputs:
        made = unfused.run(*targets.as_arrays(inputs))
        return {name: torch.from_numpy(values) for name, values in made.items()}

    try:
        own = target_specs.find(target).open_integer is not None
        exact: targets.Session | None = targets.integer_session(
            path if own else Path(integer or path), target
        )
    except TargetError as error:
        exact = None
        notes.append(str(error))
    try:
        with torch.no_grad(), shown(progress) as tell:
            comparison = targets.compare(
                session,
                simulation or by_operation,
                _telling(batches, tell, target_specs.find(target).label(version)),
                meaning,
                exact,
                precise,
            )
    finally:
        session.close()
    saturation = comparison.saturation()
    if precise is not None and saturation is None:
        saturation = targets.saturation_risk(path)
    quantized = simulation.simulated if isinstance(simulation, Quantized) else simulation
    try:
        layers = targets.layer_differences(
            path,
            target,
            _looked_at([inputs for inputs, _ in batches], comparison.apart),
            version=version,
            simulation=quantized if isinstance(quantized, SimulatedModel) else None,
        )
    except TargetError:
        notes.append("the layers cannot be compared: the target refuses them as outputs")
        layers = []
    first = layers[0] if layers else None
    return Verification(target_specs.find(target).name, comparison, tuple(notes), saturation, first)


def _telling(
    batches: list[tuple[Inputs, Any]], tell: Tell, label: str
) -> Iterator[tuple[Inputs, Any]]:
    """The batches; somebody is told as each is through."""
    started, through = time.monotonic(), 0
    every = sum(count(inputs) for inputs, _ in batches)
    for batch in batches:
        yield batch
        through += count(batch[0])
        taken = time.monotonic() - started
        tell(Step(label, 1, 1, taken, done=through == every, share=through / every))


def _looked_at(batches: list[Inputs], apart: Sequence[int]) -> Inputs:
    """The images whose answers, or at least outputs, differ, or the first ones."""
    every = joined(batches)
    if not apart:
        return first_of(every, _LAYER_IMAGES)
    return tuple(one[list(apart)] for one in every)


def _batches(images: Any, limit: int | None, wanted: int) -> list[tuple[Inputs, Any]]:
    """Batches of inputs with their target, or None; ``wanted`` inputs each."""
    whole = isinstance(images, Tensor) or _are_inputs(images, wanted)
    given = structures.split(images, structures.fitting(images, _BATCH)) if whole else images
    found: list[tuple[Inputs, Any]] = []
    left = limit
    for batch in given:
        alone = isinstance(batch, Tensor) or _are_inputs(batch, wanted)
        given_inputs = as_inputs(batch if alone else batch[0])
        inputs, target = tuple(map(_pixels, given_inputs)), None if alone else batch[1]
        found.append(
            (first_of(inputs, left or count(inputs)), None if target is None else target[:left])
        )
        if left is not None and (left := left - count(inputs)) <= 0:
            break
    if not sum(count(inputs) for inputs, _ in found):
        raise TargetError("there are no images to verify on; give at least one")
    return found


def _pixels(values: Tensor) -> Tensor:
    """Bytes of images as pixels in 0 to 1; all else as it is."""
    return values.float() / LEVELS if values.dtype == torch.uint8 else values


def _are_inputs(batch: Any, wanted: int) -> bool:
    """Whether it is one tensor an input, without a target beside them."""
    several = isinstance(batch, list | tuple) and len(batch) == wanted
    return several and all(isinstance(one, Tensor) for one in batch)
