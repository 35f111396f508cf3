"""Trace a network with torch.fx, so that techniques and simulation see every operation."""

from __future__ import annotations

import inspect
import itertools
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.errors import ModelError
from bitladder.simulation.aimet import quiet
from bitladder.simulation.plain import copy_of, make_plain
from bitladder.simulation.rewrite import rewrite
from bitladder.user_code import one_line

_PREPARED, _NOTES = "bitladder_prepared", "bitladder_notes"
_TOLERANCE = 1e-3  # of the largest logit


def prepare(model: nn.Module) -> fx.GraphModule:
    """Return a traced copy of ``model`` in evaluation mode, every operation a module.

    Functional operations (add, cat, mean, relu6 ...) become modules, so that each can carry a
    quantizer; arguments of ``forward`` besides the images keep their defaults. The caller's model
    is not changed; one that is prepared already is only copied.

    Raises:
        ModelError: torch.fx cannot trace the model; the message names the line that stops it.
    """
    model = copy_of(model)
    if isinstance(model, fx.GraphModule) and _PREPARED in model.meta:
        return model
    notes = make_plain(model)
    try:
        with quiet():
            graph = fx.Tracer().trace(model, concrete_args=_defaults(model))
            prepared = fx.GraphModule(model, graph)
    except Exception as error:  # tracing runs the user's forward, which can raise anything
        raise ModelError(
            f"torch.fx cannot trace {type(model).__name__}: {_first_line(error)}"
            f"{_place(error)}; write that line without looking at values or sizes, or move it "
            "into a function and register that with torch.fx.wrap, which is then taken as it is"
        ) from error
    notes += rewrite(prepared, model)
    prepared.meta[_PREPARED] = True
    prepared.meta[_NOTES] = tuple(notes)
    return prepared.eval()


def notes_of(module: nn.Module) -> tuple[str, ...]:
    """What a person should know of how a network was traced, a line each."""
    found: tuple[str, ...] = getattr(module, "meta", {}).get(_NOTES, ())
    return found


@torch.no_grad()
def note_ranks(module: fx.GraphModule, shape: tuple[int, ...]) -> None:
    """Note how many dimensions batch norms of one dimension read, as ``meta["rank"]``.

    Behind a linear layer, one over (N, channels) and one over (N, tokens, channels) look alike.

    Args:
        module: a prepared network.
        shape: of one image.
    """
    kinds = {type(layer) for layer in module.modules()}
    if not {nn.BatchNorm1d, nn.Linear} <= kinds:
        return
    values = itertools.chain(module.parameters(), module.buffers())
    like = next((one for one in values if one.is_floating_point()), torch.zeros(()))
    _Ranks(module).run(torch.zeros(2, *shape, dtype=like.dtype, device=like.device))


class _Ranks(fx.Interpreter):
    """Notes the dimensions of every tensor."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["rank"] = result.dim()
        return result


@torch.no_grad()
def check(model: nn.Module, images: Tensor) -> None:
    """Refuse a network that techniques and simulation cannot stand for.

    Args:
        model: any network, in evaluation mode.
        images: some images (N, C, H, W) that it takes.

    Raises:
        ModelError: it does not map the images to logits (N, classes), torch.fx cannot trace it, or
            what was traced computes something else.
    """
    size, name = "x".join(map(str, images.shape[1:])), type(model).__name__
    try:
        logits = model(images)
    except Exception as error:  # whatever a person's own code raises
        raise ModelError(
            f"{name} cannot take images of {size} (channels x height x width): {one_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = f" {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
        raise ModelError(
            f"{name} returns {type(logits).__name__}{shape}, not logits (N, classes); wrap it in a "
            "module whose forward returns them alone"
        )
    try:
        traced = prepare(model)(images)
    except ModelError:
        raise
    except Exception as error:  # such as an argument that AIMET's module for a function lacks
        raise ModelError(
            f"{name} was traced, but what was traced does not run: {one_line(error)}; write the "
            "operation in another way"
        ) from error
    difference = float((traced - logits).abs().max() / logits.abs().max().clamp(min=1e-30))
    if not difference < _TOLERANCE:
        raise ModelError(
            f"{name} computes something else once it is traced, by {difference:.2g} of the largest "
            "logit; its forward must not depend on values or on what it computed before"
        )


def _defaults(model: nn.Module) -> dict[str, Any] | None:
    """Arguments of ``forward`` after the first that may be left out, with their defaults."""
    _, *others = inspect.signature(model.forward).parameters.values()
    return {given.name: given.default for given in others if given.default is not given.empty}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _place(error: Exception) -> str:
    """File and line of the user's code in which tracing stopped, the deepest outside of torch."""
    tracer, torch_itself = inspect.getsourcefile(fx.Tracer), Path(torch.__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    begun = [index for index, frame in enumerate(frames) if frame.filename == tracer]
    for frame in reversed(frames[begun[0] :] if begun else []):
        if torch_itself not in Path(frame.filename).parents:
            return f" (at {frame.filename}:{frame.lineno}: {frame.line})"
    return ""
