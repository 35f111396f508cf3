"""Trace a network with torch.fx, so that techniques and simulation see every operation."""

from __future__ import annotations

import copy
import traceback

import torch
from torch import fx, nn

from bitladder.errors import ModelError
from bitladder.simulation.aimet import aimet


def prepare(model: nn.Module) -> fx.GraphModule:
    """Return a traced copy of ``model`` in evaluation mode, every operation a module.

    Functional operations (add, cat, mean, relu6 ...) become modules, so that each can carry a
    quantizer. The caller's model is not changed; a model that is already traced is only copied.

    Raises:
        ModelError: torch.fx cannot trace the model; the message names the line that stops it.
    """
    model = copy.deepcopy(model).eval()
    if isinstance(model, fx.GraphModule):
        return model
    try:
        prepared: fx.GraphModule = aimet("model_preparer").prepare_model(model)
    except Exception as error:  # tracing runs the user's forward, which can raise anything
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__}: {_first_line(error)}"
            f"{_place(error)}; replace data-dependent control flow, or move it into a module of "
            "its own that does not change shapes"
        ) from error
    return prepared.eval()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _place(error: Exception) -> str:
    """File and line of the user's code in which tracing stopped, if it was there."""
    ours = (torch.__path__[0], "aimet_torch")
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.name == "forward" and not any(part in frame.filename for part in ours):
            return f" (at {frame.filename}:{frame.lineno}: {frame.line})"
    return ""
