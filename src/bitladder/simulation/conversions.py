"""The modules that stand for functions: with the same arguments, or by an operator's rule.

Which function becomes which operator stands in the operator table alone.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from bitladder.operators import Operator, function_name
from bitladder.simulation.aimet import function_modules
from bitladder.simulation.arguments import named

_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.BatchNorm3d)
_EXCLUDED = -100  # what masks add to scores that a softmax must not see
_STACKS = {"hstack": 1, "column_stack": 1, "vstack": 0, "row_stack": 0, "dstack": 2}
_Step: TypeAlias = tuple[str, Any, tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class Made:
    """What takes the place of a node.

    Attributes:
        steps: (suffix, module or function, arguments, keywords) in order; the last one gives the
            result. A string among the arguments is an earlier step, by its suffix.
    """

    steps: list[_Step]


_Rule: TypeAlias = Callable[[fx.Node, fx.GraphModule, nn.Module], Made | None]


def converted(node: fx.Node, known: Operator) -> Made | None:
    """The module of an operator, with what the function was given.

    A function of AIMET's table keeps its arguments; one of PyTorch's gives them to the module.
    """
    package, _, name = known.modules[0].partition(".")
    if package == "aimet":
        return Made(
            [("", getattr(function_modules(), name)(), tuple(node.args), dict(node.kwargs))]
        )
    kind = getattr(nn, name)
    wanted = set(inspect.signature(kind).parameters) - {"inplace"}
    given = {key: value for key, value in named(node).items() if key in wanted}
    if any(isinstance(value, fx.Node) for value in given.values()):
        return None
    return Made([("", kind(**given), node.args[:1], {})])


def _clamped(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """A clamp between numbers; between tensors it stays a function."""
    given = named(node)
    low, high = given.get("min", given.get("min_val")), given.get("max", given.get("max_val"))
    if "hardtanh" in function_name(node):
        low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    if not all(end is None or isinstance(end, int | float) for end in (low, high)):
        return None
    module: nn.Module
    if low == 0 and high is None:
        module = nn.ReLU()
    elif low == 0 and high == 6:
        module = nn.ReLU6()
    else:
        ends = (-float("inf") if low is None else low, float("inf") if high is None else high)
        if not ends[0] < ends[1]:
            return None
        module = nn.Hardtanh(*ends)
    return Made([("", module, node.args[:1], {})])


def _linear(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given = _parameters(node, graph_module, "weight")
    if given is None:
        return None
    weight = given["weight"]
    assert weight is not None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=given["bias"] is not None)
    return Made([("", _take(layer, given), node.args[:1], {})])


def _convolved(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    name, given = function_name(node), _parameters(node, graph_module, "weight")
    if given is None:
        return None
    weight, bound = given["weight"], named(node)
    assert weight is not None
    order = ("stride", "padding", "output_padding", "dilation", "groups")
    settings = {key: _single(bound[key]) for key in order if bound.get(key) is not None}
    groups = settings.get("groups", 1)
    transposed = name.startswith("conv_transpose")
    kind = getattr(nn, f"ConvTranspose{name[-2:]}" if transposed else f"Conv{name[-2:]}")
    first, second = weight.shape[:2]
    channels = (first, second * groups) if transposed else (second * groups, first)
    bias = given["bias"] is not None
    layer = kind(*channels, tuple(weight.shape[2:]), bias=bias, **settings)
    return Made([("", _take(layer, given), node.args[:1], {})])


def _single(value: Any) -> Any:
    """A list of one number, which stands for all dimensions, as the number."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _parameters(
    node: fx.Node, graph_module: fx.GraphModule, *needed: str
) -> dict[str, Tensor | None] | None:
    """Weight and bias of a call where they stand in the graph; None where they are computed."""
    bound = named(node)
    given = {name: bound.get(name) for name in ("weight", "bias")}
    if not all(_is_attribute(v) or (v is None and k not in needed) for k, v in given.items()):
        return None
    return {k: None if v is None else _attribute(graph_module, v) for k, v in given.items()}


def _take(layer: nn.Module, given: Mapping[str, Tensor | None]) -> nn.Module:
    """Give a module parameters that stood in the graph, as trainable as they were."""
    for name, value in given.items():
        if value is not None:
            trained = value.requires_grad if isinstance(value, nn.Parameter) else False
            setattr(layer, name, nn.Parameter(value.detach().clone(), trained))
    return layer


def _batch_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """A batch norm for the function, of as many dimensions as its owner has."""
    bound = named(node)
    source = bound.get("running_mean")
    if source is None or not _is_attribute(source):
        return None
    owner = original.get_submodule(source.target.rpartition(".")[0])
    kind = next((k for k in _BATCH_NORMS if isinstance(owner, k)), nn.BatchNorm2d)
    own = {
        name: _attribute(graph_module, bound[name])
        for name in ("running_mean", "running_var", "weight", "bias")
        if _is_attribute(bound.get(name))
    }
    norm = kind(len(own["running_mean"]), eps=bound.get("eps", 1e-5),
                momentum=bound.get("momentum", 0.1), affine="weight" in own)  # fmt: skip
    for name, value in own.items():
        setattr(norm, name, value)
    return Made([("", norm.eval(), node.args[:1], {})])


def _layer_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given, bound = _parameters(node, graph_module), named(node)
    if given is None or (given["weight"] is None and given["bias"] is not None):
        return None
    norm = nn.LayerNorm(
        bound["normalized_shape"],
        eps=bound.get("eps", 1e-5),
        elementwise_affine=given["weight"] is not None,
        bias=given["bias"] is not None,
    )
    return Made([("", _take(norm, given), node.args[:1], {})])


def _root_mean_square(
    node: fx.Node, graph_module: fx.GraphModule, original: nn.Module
) -> Made | None:
    given, bound = _parameters(node, graph_module), named(node)
    if given is None:
        return None
    affine = given["weight"] is not None
    norm = nn.RMSNorm(bound["normalized_shape"], bound.get("eps"), elementwise_affine=affine)
    return Made([("", _take(norm, given), node.args[:1], {})])


def _group_norm(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given, bound = _parameters(node, graph_module, "weight", "bias"), named(node)
    if given is None:
        return Made([("", function_modules().GroupNorm(), tuple(node.args), dict(node.kwargs))])
    assert given["weight"] is not None
    norm = nn.GroupNorm(bound["num_groups"], len(given["weight"]), eps=bound.get("eps", 1e-5))
    return Made([("", _take(norm, given), node.args[:1], {})])


def _learned_slope(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    given = _parameters(node, graph_module, "weight")
    if given is None or given["weight"] is None:
        return None
    return Made([("", _take(nn.PReLU(given["weight"].numel()), given), node.args[:1], {})])


def _concatenated(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """Tensors put together along a dimension, or each with a new one of size one."""
    tensors, name = node.args[0], function_name(node)
    if not isinstance(tensors, list | tuple):
        return None
    axis = _STACKS.get(name, named(node).get("dim", 0))
    if name != "stack":
        return Made([("", function_modules().Concat(axis), tuple(tensors), {})])
    steps: list[_Step] = [
        (f"part{place}", torch.unsqueeze, (tensor, axis), {})
        for place, tensor in enumerate(tensors)
    ]
    parts = tuple(f"part{place}" for place in range(len(tensors)))
    return Made([*steps, ("", function_modules().Concat(axis), parts, {})])


def _weighted(name: str) -> _Rule:
    """A sum or difference whose second part may have a factor."""

    def make(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
        first, second, *rest = node.args
        factor = rest[0] if rest else named(node).get("alpha", 1)
        turned = function_name(node) == "rsub"  # second - factor first
        kept, scaled = (second, first) if turned else (first, second)
        if isinstance(scaled, int | float) and isinstance(factor, int | float):
            scaled, factor = scaled * factor, 1
        if factor == 1:
            masked = _masked(graph_module, kept, scaled) or _masked(graph_module, scaled, kept)
            if masked is not None and name == "Add":
                return masked
            return Made([("", getattr(function_modules(), name)(), (kept, scaled), {})])
        return Made(
            [
                ("factor", function_modules().Multiply(), (scaled, factor), {}),
                ("", getattr(function_modules(), name)(), (kept, "factor"), {}),
            ]
        )

    return make


def _masked(graph_module: fx.GraphModule, x: Any, mask: Any) -> Made | None:
    """The sum with a mask, whose large negative numbers would take a grid for themselves."""
    if not _is_attribute(mask):
        return None
    values = _attribute(graph_module, mask)
    if not values.is_floating_point() or values.numel() == 0 or values.min() > _EXCLUDED:
        return None
    least = float(values.min())
    if not bool(((values == 0) | (values == least)).all()):
        return None
    hidden: _Step = ("mask", torch.lt, (mask, 0), {})
    return Made([hidden, ("", function_modules().Where(), ("mask", least, x), {})])


def _divided(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    mode, operands = named(node).get("rounding_mode"), tuple(node.args[:2])
    if mode is None:
        return Made([("", function_modules().Divide(), operands, {})])
    return Made([("", function_modules().FloorDivide(), operands, {})]) if mode == "floor" else None


def _silu(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made:
    """``x sigmoid(x)`` as two operations, each with an integer kernel."""
    return Made(
        [
            ("sigmoid", nn.Sigmoid(), (node.args[0],), {}),
            ("", function_modules().Multiply(), (node.args[0], "sigmoid"), {}),
        ]
    )


def _chosen(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
    """``where(condition, a, b)``, also as a method of ``a``; ``masked_fill(a, mask, value)``."""
    if len(node.args) != 3:
        return None  # the places of what is true
    first, second, third = node.args
    if function_name(node) == "masked_fill":
        first, second, third = second, third, first
    elif node.op == "call_method":
        first, second = second, first
    return Made([("", function_modules().Where(), (first, second, third), {})])


def _extreme(pairwise: str) -> _Rule:
    """The larger or smaller of two tensors; over a dimension the function stays."""

    def make(node: fx.Node, graph_module: fx.GraphModule, original: nn.Module) -> Made | None:
        other = node.args[1] if len(node.args) == 2 else None
        if not isinstance(other, fx.Node) or other.meta.get("kind") == "number":
            return None
        return Made([("", getattr(function_modules(), pairwise)(), (node.args[0], other), {})])

    return make


RULES: dict[str, _Rule] = {
    "Add": _weighted("Add"),
    "BatchNorm": _batch_norm,
    "Concat": _concatenated,
    "Divide": _divided,
    "GroupNorm": _group_norm,
    "Hardtanh": _clamped,
    "LayerNorm": _layer_norm,
    "Linear": _linear,
    "Maximum": _extreme("Maximum"),
    "Minimum": _extreme("Minimum"),
    "PReLU": _learned_slope,
    "RMSNorm": _root_mean_square,
    "SiLU": _silu,
    "Subtract": _weighted("Subtract"),
    "Where": _chosen,
    **{f"Conv{kind}{n}d": _convolved for kind in ("", "Transpose") for n in (1, 2, 3)},
}
"""By an operator's name: how functions become its module where not with the same arguments."""


def _is_attribute(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _attribute(graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = operator.attrgetter(str(node.target))(graph_module)
    return value
