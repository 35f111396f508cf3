"""A file is run on one image and on three before it is called written, fused and unfused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bitladder.deploy.graph import INPUT
from bitladder.errors import ExportError

_IMAGES = 3
_FATAL_ONLY = 4  # an error is raised, and told once
_NOISE = 0.1  # of the outputs' size: a rounding that falls to the other side is far below
_OTHER = 0.5  # with biases that are not rounded yet, grids of 2 bits differ by more than noise

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def run_at_two_sizes(
    model: onnx.ModelProto, shape: tuple[int, ...], simulation: Run, *, compared: bool
) -> None:
    """Refuse a file whose answer for an image depends on how many images come with it.

    Args:
        model: the file.
        shape: of one image.
        simulation: the network itself; one whose own answers depend on the batch may.
        compared: the file holds the simulation's grids, so that it must compute the same.

    Raises:
        ExportError: the file cannot be run, optimised or as it is, or its outputs are of other
            images.
    """
    images = np.random.default_rng(0).random((_IMAGES, *shape), np.float32)
    levels = onnxruntime.GraphOptimizationLevel
    together, alone = _answers(model, images, levels.ORT_DISABLE_ALL)
    # Its integer kernels may refuse what runs unfused, and may do so only while they run. How far
    # they round elsewhere is measured by targets, and is no reason to refuse a file.
    _answers(model, images, levels.ORT_ENABLE_ALL)
    if together.shape != alone.shape or len(together) != _IMAGES:
        raise ExportError(
            f"the file that was written gives {together.shape[0]} rows for {_IMAGES} images"
        )
    wanted, wanted_alone = _both(simulation, images)
    if _apart(together, alone) and not _apart(wanted, wanted_alone):
        raise ExportError("the file that was written answers by the number of images it is given")
    if compared and (together.shape != wanted.shape or _apart(together, wanted, _OTHER)):
        raise ExportError("the file that was written computes something else than the simulation")


def _answers(
    model: onnx.ModelProto, images: NDArray[np.float32], level: Any
) -> tuple[NDArray[np.float32], ...]:
    """What a session gives for all images together and for each alone."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return _both(lambda given: session.run(None, {INPUT: given})[0], images)
    except Exception as error:  # the runtime raises its own, of no common type
        reason = " ".join(str(error).split())
        raise ExportError(f"the file that was written does not run: {reason}") from None


def _both(run: Run, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    return run(images), np.concatenate([run(images[i : i + 1]) for i in range(len(images))])


def _apart(first: NDArray[np.float32], second: NDArray[np.float32], share: float = _NOISE) -> bool:
    difference = np.abs(first.astype(np.float64) - second).mean()
    return bool(difference > share * (np.abs(first).mean() + 1e-30))
