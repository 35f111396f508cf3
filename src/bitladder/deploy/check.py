"""A file is run on one image and on three before it is called written, fused and unfused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bitladder.deploy.byte_inputs import as_bytes
from bitladder.errors import ExportError

CHECKED = 3
"""How many images or signals a file is run on."""
_BYTES = "tensor(uint8)"
_FATAL_ONLY = 4  # an error is raised, and told once
_NOISE = 0.1  # of the outputs' size: a rounding that falls to the other side is far below
_TIES = 0.05  # of all values: where fewer differ, ties explain it

Run = Callable[..., list[NDArray[Any]]]
"""Maps an array an input to an array an output."""


def run_at_two_sizes(
    model: onnx.ModelProto, inputs: tuple[NDArray[Any], ...], simulation: Run, *, compared: bool
) -> None:
    """Refuse a file whose answer for an image depends on how many images come with it.

    Args:
        model: the file.
        inputs: ``CHECKED`` images or signals of each input.
        simulation: the network itself; one whose own answers depend on the batch may.
        compared: the file holds the simulation's grids, so that it must compute the same.

    Raises:
        ExportError: the file cannot be run, optimised or as it is, or its outputs are of other
            images.
    """
    levels = onnxruntime.GraphOptimizationLevel
    outputs, file = _answers(model, inputs, levels.ORT_DISABLE_ALL)
    # Its integer kernels may refuse what runs unfused, and may do so only while they run. How far
    # they round elsewhere is measured by targets, and is no reason to refuse a file.
    _answers(model, inputs, levels.ORT_ENABLE_ALL)
    for name, made, wanted in zip(outputs, file, _both(simulation, inputs), strict=True):
        fault = _fault(*made, *wanted, compared=compared)
        if fault:
            what = "" if len(outputs) == 1 else f" in output '{name}'"
            raise ExportError(f"the file that was written {fault}{what}")


def _answers(
    model: onnx.ModelProto, inputs: tuple[NDArray[Any], ...], level: Any
) -> tuple[list[str], list[tuple[NDArray[Any], NDArray[Any] | None]]]:
    """The outputs' names, and what a session gives for all images together and for each alone."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]
        outputs = [output.name for output in session.get_outputs()]
        bytewise = [given.type == _BYTES for given in session.get_inputs()]
        inputs = tuple(
            as_bytes(one) if of_bytes else one
            for one, of_bytes in zip(inputs, bytewise, strict=True)
        )
        run = lambda *given: session.run(None, dict(zip(names, given, strict=True)))  # noqa: E731
        return outputs, _both(run, inputs)
    except Exception as error:  # the runtime raises its own, of no common type
        reason = " ".join(str(error).split())
        raise ExportError(f"the file that was written does not run: {reason}") from None


def _fault(
    together: NDArray[Any],
    alone: NDArray[Any] | None,
    wanted: NDArray[Any],
    wanted_alone: NDArray[Any] | None,
    *,
    compared: bool,
) -> str:
    """What is wrong with an output, or nothing."""
    if together.shape != wanted.shape:
        return f"gives {list(together.shape)} where the network gives {list(wanted.shape)}"
    if wanted_alone is not None:
        if alone is None:
            return f"gives other rows for one image than for {CHECKED}"
        if _apart(together, alone) and not _apart(wanted, wanted_alone):
            return "answers by the number of images it is given"
    if compared and _apart(together, wanted):
        return "computes something else than the simulation"
    return ""


def _both(
    run: Run, inputs: tuple[NDArray[Any], ...]
) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Each output of all images, and of one after the other if it has a row an image."""
    together = run(*inputs)
    each = [run(*(one[i : i + 1] for one in inputs)) for i in range(CHECKED)]
    found = []
    for place, whole in enumerate(together):
        parts = [one[place] for one in each]
        rows = [len(part) if part.ndim else 0 for part in (whole, *parts)]
        by_row = rows == [CHECKED, *[1] * CHECKED]
        found.append((whole, np.concatenate(parts) if by_row else None))
    return found


def _apart(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether values are others, by more than ties explain.

    Where nearly all of an output is zero, one rounding to the other side is many times its mean.
    """
    if not first.size:
        return False
    first, second = first.astype(np.float64), second.astype(np.float64)
    difference = np.abs(first - second)
    far = difference.mean() > _NOISE * (np.abs(first).mean() + 1e-30)
    return bool(far and (difference > 0).mean() > _TIES)
