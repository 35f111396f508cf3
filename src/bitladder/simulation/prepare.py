"""Trace a network with torch.fx, so that techniques and simulation see every operation."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitladder.errors import ModelError
from bitladder.simulation.aimet import quiet
from bitladder.simulation.plain import copy_of, make_plain
from bitladder.simulation.rewrite import rewrite
from bitladder.structures import Inputs, input_names, named
from bitladder.user_code import one_line

_PREPARED, _NOTES = "bitladder_prepared", "bitladder_notes"
_TOLERANCE = 1e-3  # of the largest value of an output


def prepare(model: nn.Module, inputs: Inputs | None = None) -> fx.GraphModule:
    """Return a traced copy of ``model`` in evaluation mode, every operation a module.

    Functional operations (add, cat, mean, relu6 ...) become modules, so that each can carry a
    quantizer; arguments of ``forward`` besides the inputs keep their defaults. What the network
    returns keeps its structure. The caller's model is not changed; one that is prepared already is
    only copied.

    Args:
        model: any network.
        inputs: such as it takes, of which their number counts; without, every argument of
            ``forward`` that has no default is an input, and ``*inputs`` is one.

    Raises:
        ModelError: torch.fx cannot trace the model; the message names the line that stops it.
    """
    model = copy_of(model)
    if isinstance(model, fx.GraphModule) and _PREPARED in model.meta:
        return model
    notes = make_plain(model)
    try:
        with quiet():
            graph = _Tracer(model, None if inputs is None else len(inputs)).trace(model)
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


class _Tracer(fx.Tracer):
    """Traces with one placeholder an input; other arguments keep their defaults."""

    def __init__(self, model: nn.Module, count: int | None) -> None:
        super().__init__()
        self._inputs = input_names(model.forward, count)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        given = [self.create_proxy("placeholder", name, (), {}) for name in self._inputs]
        return root_fn, [self.root, *given]


@torch.no_grad()
def check(model: nn.Module, inputs: Inputs) -> None:
    """Refuse a network that techniques and simulation cannot stand for.

    Args:
        model: any network, in evaluation mode.
        inputs: some that it takes.

    Raises:
        ModelError: it does not take the inputs, returns no tensor, torch.fx cannot trace it, or
            what was traced computes something else.
    """
    sizes = ", ".join("x".join(map(str, one.shape[1:])) for one in inputs)
    name = type(model).__name__
    try:
        wanted = named(model(*inputs))
    except Exception as error:  # whatever a person's own code raises
        what = "images of" if len(inputs) == 1 and inputs[0].dim() == 4 else "inputs of"
        raise ModelError(f"{name} cannot take {what} {sizes}: {one_line(error)}") from error
    if not wanted:
        raise ModelError(
            f"{name} returns no tensor; return one, or tuples, lists, dictionaries or dataclasses "
            "of them"
        )
    try:
        found = named(prepare(model, inputs)(*inputs))
    except ModelError:
        raise
    except Exception as error:  # such as an argument that AIMET's module for a function lacks
        raise ModelError(
            f"{name} was traced, but what was traced does not run: {one_line(error)}; write the "
            "operation in another way"
        ) from error
    for output, values in wanted.items():
        difference = _difference(found.get(output), values)
        if not difference < _TOLERANCE:
            raise ModelError(
                f"{name} computes something else once it is traced, '{output}' by "
                f"{difference:.2g} of its largest value; its forward must not depend on values or "
                "on what it computed before"
            )


def _difference(found: Tensor | None, wanted: Tensor) -> float:
    """Largest difference over the largest value; infinity for another shape."""
    if found is None or found.shape != wanted.shape:
        return float("inf")
    if not wanted.numel():
        return 0.0
    apart = (found.double() - wanted.double()).abs().max()
    return float(apart / wanted.double().abs().max().clamp(min=1e-30))


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
