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
from bitladder.structures import (
    NOTES,
    Inputs,
    Outputs,
    dtypes,
    example,
    input_names,
    moved,
    named,
    shapes,
)
from bitladder.user_code import one_line

_PREPARED = "bitladder_prepared"
_TOLERANCE = 1e-3  # of the largest value of an output
_COUNTS = (1, 4)  # images that a traced network is compared on


def prepare(model: nn.Module, inputs: Inputs | None = None) -> fx.GraphModule:
    """Return a traced copy of ``model`` in evaluation mode, every operation a module.

    Functional operations (add, cat, mean, relu6 ...) become modules, so that each can carry a
    quantizer; arguments of ``forward`` besides the inputs keep their defaults. What the network
    returns keeps its structure. The caller's model is not changed; one that is prepared already is
    only copied.

    torch.fx traces without sizes. Where it stops, or leaves a function that no operator is known
    for, the network is recorded while it runs (see ``record``). Where that stops, too, torch.export
    writes it as ONNX, which is read again (see ``exported``).

    Args:
        model: any network.
        inputs: such as it takes, of which their number, shapes and types count. Without them,
            every argument of ``forward`` that has no default is an input, ``*inputs`` is one, and
            nothing is recorded.

    Raises:
        ModelError: the model cannot be traced, or what was traced computes something else; the
            message names the line that stops it.
    """
    model = copy_of(model)
    if isinstance(model, fx.GraphModule) and _PREPARED in model.meta:
        return model
    notes = [*notes_of(model), *make_plain(model)]
    attempts: list[_Attempt] = []
    for trace in (_symbolic, _recorded, _exported)[: 1 if inputs is None else 3]:
        if trace is _exported and any(made.fault is None for made in attempts):
            break
        attempts.append(_attempt(trace, model, inputs))
        if attempts[-1].fault is None and not attempts[-1].unknown:
            break
    best = min(attempts, key=lambda made: (made.fault is not None, len(made.unknown)))
    if best.fault is not None:
        first = attempts[:2]  # what stops the exporter says less of the user's code
        told = [made.fault for made in reversed(first) if made.traced is not None]
        raise told[0] or best.fault if told else first[-1].fault or best.fault
    prepared = best.traced
    assert prepared is not None
    prepared.meta[_PREPARED] = True
    prepared.meta[NOTES] = tuple(notes + best.notes)
    return prepared.eval()


@dataclass
class _Attempt:
    """What came of one way to trace a network."""

    traced: fx.GraphModule | None = None
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    fault: ModelError | None = None


def _attempt(
    trace: Callable[..., fx.GraphModule], model: nn.Module, inputs: Inputs | None
) -> _Attempt:
    made, name = _Attempt(), type(model).__name__
    try:
        with quiet():
            traced = trace(model, inputs)
            owner = traced if trace is _exported else model
            made.notes = rewrite(traced, owner, recorded=trace is not _symbolic)
    except Exception as error:  # tracing runs the user's forward, which can raise anything
        made.fault = ModelError(
            f"torch.fx cannot trace {name}: {_first_line(error)}"
            f"{_place(error)}; write that line without looking at values, or move it "
            "into a function and register that with torch.fx.wrap, which is then taken as it is; "
            "or export the network to ONNX without it, and give that file"
        )
        made.fault.__cause__ = error
        return made
    made.traced, made.unknown = traced, unknown(traced)
    if inputs is not None:
        made.fault = _unlike(traced, model, inputs)
    return made


def _symbolic(model: nn.Module, inputs: Inputs | None) -> fx.GraphModule:
    graph = _Tracer(model, None if inputs is None else len(inputs)).trace(model)
    return fx.GraphModule(model, graph)


def _recorded(model: nn.Module, inputs: Inputs) -> fx.GraphModule:
    return record(model, shapes(inputs), dtypes(inputs))


def _exported(model: nn.Module, inputs: Inputs) -> fx.GraphModule:
    from bitladder.simulation.exported import exported  # loads ONNX Runtime

    return exported(model, inputs)


@torch.no_grad()
def _unlike(traced: fx.GraphModule, model: nn.Module, inputs: Inputs) -> ModelError | None:
    """Why a traced network is not the model, at one image and at four; None where it is."""
    for count in _COUNTS:
        given = example(count, shapes(inputs), dtypes(inputs), seed=count)
        given = moved(given, device_of(model))
        try:
            wanted = named(model(*given))
        except Exception:  # what the network itself refuses is not compared
            continue
        fault = _fault(traced, wanted, given, type(model).__name__)
        if fault is not None:
            return fault
    return None


def _fault(traced: fx.GraphModule, wanted: Outputs, inputs: Inputs, name: str) -> ModelError | None:
    try:
        found = named(traced.forward(*inputs))  # a call prints what it raises
    except Exception as error:  # such as an argument that AIMET's module for a function lacks
        return ModelError(
            f"{name} was traced, but what was traced does not run: {one_line(error)}; write the "
            "operation in another way"
        )
    for output, values in wanted.items():
        difference = _difference(found.get(output), values)
        if not difference < _TOLERANCE and torch.isfinite(values).all():
            return ModelError(
                f"{name} computes something else once it is traced, '{output}' by "
                f"{difference:.2g} of its largest value; its forward must not depend on values or "
                "on what it computed before"
            )
    return None


def notes_of(module: nn.Module) -> tuple[str, ...]:
    """What a person should know of how a network was traced, a line each."""
    found: tuple[str, ...] = getattr(module, "meta", {}).get(NOTES, ())
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
def note_ranks(module: fx.GraphModule, inputs: Inputs) -> None:
    """Note how many dimensions batch norms of one dimension read, as ``meta["rank"]``.

    Behind a linear layer, one over (N, channels) and one over (N, tokens, channels) look alike.

    Args:
        module: a prepared network.
        inputs: some that it takes.
    """
    kinds = {type(layer) for layer in module.modules()}
    if not {nn.BatchNorm1d, nn.Linear} <= kinds:
        return
    values = itertools.chain(module.parameters(), module.buffers())
    like = next((one for one in values if one.is_floating_point()), torch.zeros(()))
    given = (one.to(like if one.is_floating_point() else like.device) for one in inputs)
    _Ranks(module).run(*given)


class _Ranks(fx.Interpreter):
    """Notes the dimensions of every tensor."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["rank"] = result.dim()
        return result


@torch.no_grad()
def check(model: nn.Module, inputs: Inputs) -> None:
    """Refuse a network that techniques and simulation cannot stand for.

    Args:
        model: any network, in evaluation mode.
        inputs: some that it takes.

    Raises:
        ModelError: it does not take the inputs, returns no tensor or NaN alone, cannot be traced,
            or what was traced computes something else.
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
    empty = [
        output for output, values in wanted.items() if values.numel() and torch.isnan(values).all()
    ]
    if empty:
        raise ModelError(
            f"{name} gives nothing but NaN in '{empty[0]}' for these inputs; see that they are of "
            "the kind and range that it was trained on, and that its weights are"
        )
    fault = _fault(prepare(model, inputs), wanted, inputs, name)
    if fault is not None:
        raise fault


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
    tracers = {inspect.getsourcefile(fx.Tracer), inspect.getsourcefile(record)}
    elsewhere = {Path(torch.__file__).parent, Path(__file__).parent}
    frames = traceback.extract_tb(error.__traceback__)
    begun = [index for index, frame in enumerate(frames) if frame.filename in tracers]
    for frame in reversed(frames[begun[0] :] if begun else []):
        if not elsewhere & set(Path(frame.filename).parents):
            return f" (at {frame.filename}:{frame.lineno}: {frame.line})"
    return ""
