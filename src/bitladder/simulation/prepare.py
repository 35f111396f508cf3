"""Trace a network with torch.fx, so that techniques and simulation see every operation."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.errors import ModelError
from bitladder.simulation.aimet import quiet
from bitladder.simulation.plain import copy_of, make_plain
from bitladder.simulation.quality import device_of
from bitladder.simulation.record import record
from bitladder.simulation.rewrite import rewrite, unknown
from bitladder.user_code import one_line

_PREPARED, _NOTES = "bitladder_prepared", "bitladder_notes"
_TOLERANCE = 1e-3  # of the largest logit
_COUNTS = (1, 4)  # images that a traced network is compared on


def prepare(model: nn.Module, shape: tuple[int, ...] | None = None) -> fx.GraphModule:
    """Return a traced copy of ``model`` in evaluation mode, every operation a module.

    Functional operations (add, cat, mean, relu6 ...) become modules, so that each can carry a
    quantizer; arguments of ``forward`` besides the images keep their defaults. The caller's model
    is not changed; one that is prepared already is only copied.

    torch.fx traces without sizes. Where it stops, or leaves a function that no operator is known
    for, the network is recorded on images of the shape (see ``record``).

    Args:
        model: any network.
        shape: of an image, (channels, height, width); without it nothing is recorded.

    Raises:
        ModelError: the model cannot be traced, or what was traced computes something else; the
            message names the line that stops it.
    """
    model = copy_of(model)
    if isinstance(model, fx.GraphModule) and _PREPARED in model.meta:
        return model
    notes = make_plain(model)
    attempts: list[_Attempt] = []
    for trace in (_symbolic, _recorded)[: 1 if shape is None else 2]:
        attempts.append(_attempt(trace, model, shape))
        if attempts[-1].fault is None and not attempts[-1].unknown:
            break
    best = min(attempts, key=lambda made: (made.fault is not None, len(made.unknown)))
    if best.fault is not None:
        told = [made.fault for made in reversed(attempts) if made.traced is not None]
        raise told[0] or best.fault if told else attempts[-1].fault or best.fault
    prepared = best.traced
    assert prepared is not None
    prepared.meta[_PREPARED] = True
    prepared.meta[_NOTES] = tuple(notes + best.notes)
    return prepared.eval()


@dataclass
class _Attempt:
    """What came of one way to trace a network."""

    traced: fx.GraphModule | None = None
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    fault: ModelError | None = None


def _attempt(
    trace: Callable[..., fx.GraphModule], model: nn.Module, shape: tuple[int, ...] | None
) -> _Attempt:
    made, name = _Attempt(), type(model).__name__
    try:
        with quiet():
            traced = trace(model, shape)
            made.notes = rewrite(traced, model, recorded=trace is _recorded)
    except Exception as error:  # tracing runs the user's forward, which can raise anything
        made.fault = ModelError(
            f"torch.fx cannot trace {name}: {_first_line(error)}"
            f"{_place(error)}; write that line without looking at values, or move it "
            "into a function and register that with torch.fx.wrap, which is then taken as it is"
        )
        made.fault.__cause__ = error
        return made
    made.traced, made.unknown = traced, unknown(traced)
    if shape is not None:
        made.fault = _unlike(traced, model, shape)
    return made


def _symbolic(model: nn.Module, shape: Any) -> fx.GraphModule:
    graph = fx.Tracer().trace(model, concrete_args=_defaults(model))
    return fx.GraphModule(model, graph)


def _recorded(model: nn.Module, shape: Any) -> fx.GraphModule:
    return record(model, shape)


@torch.no_grad()
def _unlike(traced: fx.GraphModule, model: nn.Module, shape: tuple[int, ...]) -> ModelError | None:
    """Why a traced network is not the model, at one image and at four; None where it is."""
    for count in _COUNTS:
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
        images = images.to(device_of(model))
        try:
            wanted = model(images)
        except Exception:  # what the network itself refuses is not compared
            continue
        fault = _fault(traced, wanted, images, type(model).__name__)
        if fault is not None:
            return fault
    return None


def _fault(traced: fx.GraphModule, wanted: Any, images: Tensor, name: str) -> ModelError | None:
    try:
        found = traced.forward(images)  # a call prints what it raises
    except Exception as error:  # such as an argument that AIMET's module for a function lacks
        return ModelError(
            f"{name} was traced, but what was traced does not run: {one_line(error)}; write the "
            "operation in another way"
        )
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor):
        return None
    size = wanted.abs().max().clamp(min=1e-30)
    difference = float((found - wanted).abs().max() / size) if found.shape == wanted.shape else 1
    if difference < _TOLERANCE or not torch.isfinite(wanted).all():
        return None
    return ModelError(
        f"{name} computes something else once it is traced, by {difference:.2g} of the largest "
        "logit; its forward must not depend on values or on what it computed before"
    )


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
    fault = _fault(prepare(model, images.shape[1:]), logits, images, name)
    if fault is not None:
        raise fault


def _defaults(model: nn.Module) -> dict[str, Any] | None:
    """Arguments of ``forward`` after the first that may be left out, with their defaults."""
    _, *others = inspect.signature(model.forward).parameters.values()
    return {given.name: given.default for given in others if given.default is not given.empty}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _place(error: Exception) -> str:
    """File and line of the user's code in which tracing stopped, the deepest outside of torch."""
    tracers = {inspect.getsourcefile(fx.Tracer), inspect.getsourcefile(record)}
    elsewhere = {Path(torch.__file__).parent, Path(__file__).parent}
    frames = traceback.extract_tb(error.__traceback__)
    begun = [index for index, frame in enumerate(frames) if frame.filename in tracers]
    for frame in reversed(frames[begun[0] :] if begun else []):
        if not elsewhere & set(Path(frame.filename).parents):
            return f" (at {frame.filename}:{frame.lineno}: {frame.line})"
    return ""
