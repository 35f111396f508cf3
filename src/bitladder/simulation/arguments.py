"""Arguments of calls by their names and places, whatever way the caller gave them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

# Names of NumPy that PyTorch takes as well, and its own.
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x2": "other"}
_FIRST = ("input", "self", "x", "x1")
_Parameters = tuple[inspect.Parameter, ...]
_NO_TENSOR = {"int", "number", "bool", "float", "str"}


def by_place(graph_module: fx.GraphModule) -> None:
    """Give arguments of every call their places; those that have names alone keep them."""
    for node in graph_module.graph.nodes:
        if not node.kwargs or not node.op.startswith("call_"):
            continue
        bound = _bound(node, graph_module)
        if bound is not None:
            node.args, node.kwargs = bound


def named(node: fx.Node) -> dict[str, Any]:
    """The arguments of a function or method by name, as far as its signature is known."""
    for parameters in _signatures(node):
        found = _fit(parameters, node.args, node.kwargs)
        if found is not None:
            return found
    return dict(node.kwargs)


def _bound(node: fx.Node, graph_module: fx.GraphModule) -> tuple[tuple[Any, ...], Any] | None:
    signatures = (
        [_own(type(graph_module.get_submodule(str(node.target))).forward)]
        if node.op == "call_module"
        else _signatures(node)
    )
    for parameters in signatures:
        found = None if parameters is None else _fit(parameters, node.args, node.kwargs)
        if found is None:
            continue
        assert parameters is not None
        places = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        last = max((i for i, p in enumerate(places) if p.name in found), default=-1)
        args = tuple(found.get(p.name, p.default) for p in places[: last + 1])
        kwargs = {p.name: found[p.name] for p in parameters[len(places) :] if p.name in found}
        return args, kwargs
    return None


def _fit(
    parameters: _Parameters, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Arguments by name, or None where they are not for these parameters."""
    places = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(places):
        return None
    found = {p.name: value for p, value in zip(places, args, strict=False)}
    names = {p.name for p in parameters}
    for given, value in kwargs.items():
        name = given if given in names else _ALIASES.get(given, given)
        if name not in names and given in _FIRST and places:
            name = "self" if "self" in names else places[0].name
        if name not in names or name in found:
            return None
        found[name] = value
    if any(p.default is p.empty and p.name not in found for p in parameters):
        return None
    if any(not _suits(p.annotation, found.get(p.name)) for p in parameters):
        return None
    return found


def _suits(kind: Any, value: Any) -> bool:
    """Whether a value can be what a schema of PyTorch asks for."""
    tensor = isinstance(value, fx.Node) and value.meta.get("kind", "tensor") == "tensor"
    if kind == "Tensor":
        return isinstance(value, fx.Node)
    if kind in _NO_TENSOR:
        return not tensor and not isinstance(value, list | tuple)
    return True


def _signatures(node: fx.Node) -> tuple[_Parameters, ...]:
    if node.op == "call_method":
        name, own = str(node.target), getattr(Tensor, str(node.target), None)
    else:
        name, own = getattr(node.target, "__name__", ""), node.target
        if getattr(own, "__module__", None) in ("_operator", "builtins"):
            return ()
    if inspect.isfunction(own):
        parameters = _own(own)
        return () if parameters is None else (parameters,)
    return _of_schemas(name)


def _own(function: Any) -> _Parameters | None:
    """Parameters of a function of Python, or None where it takes any."""
    parameters = tuple(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self" and "." in function.__qualname__:
        is_method_of_tensor = function.__qualname__.startswith(("Tensor.", "TensorBase."))
        parameters = parameters if is_method_of_tensor else parameters[1:]
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.kind in anything for p in parameters):
        return None
    return tuple(p.replace(annotation=inspect.Parameter.empty) for p in parameters)


@functools.cache
def _of_schemas(name: str) -> tuple[_Parameters, ...]:
    """Parameters of the overloads that PyTorch has of an operator."""
    found = []
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name.lstrip('_')}"):
        if any(argument.is_out for argument in schema.arguments):
            continue
        found.append(
            tuple(
                inspect.Parameter(
                    argument.name if argument.name != "from" else "from_",
                    inspect.Parameter.KEYWORD_ONLY
                    if argument.kwarg_only
                    else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=argument.default_value
                    if argument.has_default_value()
                    else inspect.Parameter.empty,
                    annotation=str(argument.type),
                )
                for argument in schema.arguments
            )
        )
    return tuple(found)
